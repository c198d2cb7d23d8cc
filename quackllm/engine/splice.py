"""Calls in naive form, put into the text of a statement; all else stays as written."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp
from sqlglot.errors import SqlglotError

from quackllm.engine.binder import Binder, BoundCall, as_written, calls_of_formula
from quackllm.engine.statement import CallText, Statement, calls_in, split
from quackllm.errors import BindError
from quackllm.optimizer.naive import naive_call, window_of
from quackllm.optimizer.sql import json_fragment, literal, parse, raw, text
from quackllm.udfs.base import Call
from quackllm.udfs.registry import Functions


def splice(
    sql: str,
    functions: Functions,
    binder: Binder,
    run: str,
    seen: Callable[[Call], None] = lambda call: None,
) -> str:
    """Write every call of a statement as the registered scalar function.

    seen: told of each bound call. Raises `BindError`.
    """
    result, at = [], 0
    for statement in split(sql):
        for found in calls_in(statement, functions):
            start, end = statement.offset + found.start, statement.offset + found.end
            result.append(sql[at:start])
            result.append(_spliced(statement, found, functions, binder, run, seen))
            at = end
    return "".join([*result, sql[at:]])


def _spliced(
    statement: Statement,
    found: CallText,
    functions: Functions,
    binder: Binder,
    run: str,
    seen: Callable[[Call], None],
) -> str:
    node = _read(statement, found)
    formula = binder.formula(node)
    if formula is not None:
        try:
            return splice(formula, functions, binder, run, seen)
        except BindError as error:
            if error.call.lower() not in calls_of_formula(node, functions):
                raise
            raise as_written(error, error.call, node.name) from None
    bound = binder.bind(node)
    seen(bound.call)
    fragments = [
        json_fragment(splice(source, functions, binder, run, seen))
        for source in _sources(statement, found, bound)
    ]
    return naive_call(run, bound.call.spec, bound.call, fragments, window_of(node))


def _sources(statement: Statement, found: CallText, bound: BoundCall) -> list[str]:
    sources = []
    for field in bound.fields:
        start, end = found.arguments[field.argument]
        source = statement.sql[start:end]
        if field.member is not None:
            source = f"struct_extract({source}, {literal(field.member)})"
        elif _is_expanded(field.node, source):
            source = text(field.node.copy())
        sources.append(source)
    return sources


def _is_expanded(node: exp.Expr, source: str) -> bool:
    """Whether a field is one column of a star."""
    return isinstance(node, exp.Column) and source.rstrip().endswith("*")


def _read(statement: Statement, found: CallText) -> exp.Anonymous:
    """Parse a call; arguments that are nested too deeply for sqlglot stay text.

    Its parser recurses some twenty frames for each function in another, out of Python's thousand.
    """
    call = statement.sql[found.start : found.end]
    try:
        return _parsed(call)
    except RecursionError:
        arguments = [_argument(statement.sql[start:end]) for start, end in found.arguments]
        return exp.Anonymous(this=call.partition("(")[0].strip(), expressions=arguments)


def _argument(source: str) -> exp.Expr:
    try:
        argument: exp.Expr = _parsed(f"f({source})").expressions[0]
    except RecursionError:
        if source.lstrip().startswith("{"):
            raise BindError(
                "Binder Error: an argument that names its fields is nested too deeply to be read; "
                "compute the values in a subquery or a CTE and pass its columns"
            ) from None
        return exp.Column(this=raw(source.strip()))  # no constant, and named by its text
    return argument


def _parsed(call: str) -> exp.Anonymous:
    try:
        tree = parse(f"SELECT {call}")
    except SqlglotError as error:
        raise BindError(f"Parser Error: in {call}: {error}") from None
    node = tree.expressions[0].unalias()
    while isinstance(node, exp.Filter | exp.Window):
        node = node.this
    if not isinstance(node, exp.Anonymous):
        raise BindError(f"Parser Error: {call} is not a call")
    for each in tree.find_all(exp.Anonymous):
        each.meta.pop("start", None)  # a place in the call, and not in the statement
    return node
