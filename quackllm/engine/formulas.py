"""Functions that are formulas of others: what stands in their place.

A formula over rows takes its arguments as they are. One over sets, such as LLM_AGG, takes
its first argument as the list of its values in a group. DISTINCT, ORDER BY, FILTER and OVER
belong to that list:

    LLM_AGG(DISTINCT body, 'task' ORDER BY day) FILTER (WHERE ok)
    LLM_REDUCE({'body': list(DISTINCT body ORDER BY day, body) FILTER (WHERE ok)}, 'task')

The values themselves are the last key of the order, so that the same rows make the same list,
however DuckDB comes upon them.
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.errors import BindError
from quackllm.optimizer.sql import text
from quackllm.udfs.base import Function
from quackllm.udfs.registry import Functions

Named = exp.PropertyEQ | exp.Kwarg


def written_out(node: exp.Anonymous, functions: Functions) -> str | None:
    """Return the SQL that a call of a formula stands for; None for another function.

    Of a formula over sets it stands for the whole of `extent`. Raises `BindError` for the
    wrong number of arguments.
    """
    function = functions.get(node.name)
    if function is None or function.formula is None:
        return None
    arguments = _as_list(node, function) if function.over_set else list(node.expressions)
    options = [part for part in arguments if isinstance(part, Named)]
    given = [text(part.copy()) for part in arguments if not isinstance(part, Named)]
    if len(given) != len(function.parameters):
        raise _wrong_number(function)
    names = [parameter.name for parameter in function.parameters]
    more = "".join(f", {text(option.copy())}" for option in options)
    inner = [part + more for part in given] if not function.over_set else given
    return function.formula.format(**dict(zip(names, inner, strict=True)), options=more)


def extent(node: exp.Expr) -> exp.Expr:
    """Return a call with the FILTER and the OVER that belong to it."""
    around = node.parent
    if isinstance(around, exp.Filter | exp.Window) and around.this is node:
        return extent(around)
    return node


def _as_list(node: exp.Anonymous, function: Function) -> list[exp.Expr]:
    """Return the arguments of a call, the first one as the list of its values in the group."""
    arguments, keys, distinct = list(node.expressions), [], False
    if arguments and isinstance(arguments[-1], exp.Order):
        keys = arguments[-1].expressions
        arguments[-1] = arguments[-1].this
    if arguments and isinstance(arguments[0], exp.Distinct):
        distinct = True
        arguments = [*arguments[0].expressions, *arguments[1:]]
    if not arguments or isinstance(arguments[0], Named):
        raise _wrong_number(function)
    value = arguments[0]
    ordered = [key.copy() for key in keys] + [exp.Ordered(this=value.copy())]
    values = exp.Distinct(expressions=[value.copy()]) if distinct else value.copy()
    made: exp.Expr = exp.Anonymous(
        this="list", expressions=[exp.Order(this=values, expressions=ordered)]
    )
    inner: exp.Expr = node
    while extent(inner) is not inner:
        around = inner.parent
        assert around is not None
        copied = around.copy()
        copied.set("this", made)
        made, inner = copied, around
    name = value.name if isinstance(value, exp.Column) and value.name else "values"
    member = exp.PropertyEQ(this=exp.to_identifier(name, quoted=True), expression=made)
    return [exp.Struct(expressions=[member]), *arguments[1:]]


def _wrong_number(function: Function) -> BindError:
    return BindError(f"Binder Error: wrong number of arguments: {function.signature()}")
