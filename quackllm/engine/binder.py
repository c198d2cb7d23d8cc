"""Binding: from a call as it is written to a `Call` and the expressions of its fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from quackllm.engine.formulas import extent, written_out
from quackllm.engine.places import placed
from quackllm.errors import BindError
from quackllm.optimizer.naive import FUNCTION, of_all_rows, window_of
from quackllm.optimizer.scope import in_scope, rows_of
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import ModelCall, column, find_all, held, parse, quote, released, text
from quackllm.udfs.base import Call, Embedding, Function, Kind, Parameter
from quackllm.udfs.nested_types import Json, ListType, MapType, StructType
from quackllm.udfs.registry import Functions
from quackllm.udfs.type_parser import is_type, result_type
from quackllm.udfs.types import SqlType

LAMBDAS = (exp.Lambda, exp.Comprehension)

NAMED = (exp.PropertyEQ, exp.Kwarg)
"""Options of a call, written `name := value`."""

WRITTEN = "quackllm_written"
"""Key in a call's `meta`: the function in whose formula it stands, which is what was written."""

KEYS = (exp.Order, exp.Group, exp.Distinct)
"""Where DuckDB reads a constant in a way of its own, or refuses it."""

Fold = Callable[[exp.Expr], Any]
"""Evaluates an expression without columns to a Python value."""

Dimensions = Callable[[Call], int]
"""How many numbers the model of a call gives for an embedding."""

Columns = Callable[[exp.Query], tuple[tuple[str, str], ...] | None]
"""Names and types of a query's output, None when it does not bind."""


@dataclass(frozen=True)
class Field:
    """One data field of a call.

    argument: position of the argument that it comes from.
    member: its key when the argument is a struct literal.
    """

    name: str
    node: exp.Expr
    argument: int
    member: str | None = None


@dataclass(frozen=True)
class BoundCall:
    """A bound call and where the values of its fields come from."""

    call: Call
    fields: tuple[Field, ...]


class Binder:
    """Binds the calls of one statement."""

    def __init__(
        self, functions: Functions, fold: Fold, columns: Columns, dimensions: Dimensions, sql: str
    ) -> None:
        """Make one; `sql` is the text in which errors show the place of a call."""
        self._functions = functions
        self._fold = fold
        self._columns = columns
        self._dimensions = dimensions
        self._sql = sql

    def bind_tree(self, root: exp.Expr, calls: dict[str, Call]) -> exp.Expr:
        """Replace every call in a tree by a `ModelCall`; add the bound calls to `calls`."""
        holder = held(root)
        for node in reversed(self._nodes(holder)):  # a formula may be an argument of another
            formula = self.formula(node)
            if formula is not None:
                extent(node).replace(_written_out(node, formula, self._functions))
        nodes = self._nodes(holder)
        for node in reversed(nodes):  # breadth first: calls among arguments come last
            bound = self.bind(node)
            calls[bound.call.spec] = bound.call
            fields = [field.node.copy() for field in bound.fields]
            made = ModelCall(this=bound.call.spec, expressions=fields)
            if bound.call.declaration.joint is None:
                node.replace(made)
            else:
                _put_over(node, made)
        _fold_empty(holder, calls)
        return released(holder)

    def _nodes(self, tree: exp.Expr) -> list[exp.Anonymous]:
        """The calls of our functions, those among the arguments of others later."""
        nodes = find_all(tree, exp.Anonymous)
        return [node for node in nodes if self._functions.get(node.name) is not None]

    def restore_tree(self, root: exp.Expr, calls: dict[str, Call]) -> exp.Expr:
        """Replace calls in naive form, as a relation's text holds them, by `ModelCall`s."""
        holder = held(root)
        naive = [node for node in find_all(holder, exp.Anonymous) if node.name.lower() == FUNCTION]
        for node in reversed(naive):
            _, spec, *fragments = node.expressions
            call = self._functions.from_spec(spec.this)
            calls[call.spec] = call
            casts = _casts(result_type(call.declaration))
            window = None
            if call.declaration.joint is not None:
                window = fragments.pop().find(exp.Window)
            fields = [_unrendered(fragment) for fragment in fragments]
            made = ModelCall(this=call.spec, expressions=fields)
            whole = made if window is None else _over(made, window)
            _without_casts(node, casts).replace(whole)
        return released(holder)

    def formula(self, node: exp.Anonymous) -> str | None:
        """Return the SQL that a call of a formula stands for, None for another call.

        Raises `BindError` as `bind` does.
        """
        try:
            return written_out(node, self._functions)
        except BindError as error:
            raise self._shown(error, node) from None

    def bind(self, node: exp.Anonymous) -> BoundCall:
        """Bind one call.

        Raises `BindError` with what was wrong, in which call, and what would be right.
        """
        try:
            return self._bound(node)
        except BindError as error:
            raise self._shown(error, node) from None

    def _shown(self, error: BindError, node: exp.Anonymous) -> BindError:
        """Return an error about a call with its name as written, and its place in the text."""
        written = node.meta.get(WRITTEN, node.name)
        return placed(as_written(error, node.name, written), self._sql, node.meta.get("start"))

    def _bound(self, node: exp.Anonymous) -> BoundCall:
        function = self._functions.get(node.name)
        assert function is not None
        if function.joint:
            _refuse_around(node)
        written = node.name
        shown = self._functions.get(node.meta.get(WRITTEN, written)) or function
        usage = shown.signature()
        options, arguments = self._options(node, function)
        constants: dict[str, Any] = {}
        fields: list[Field] = []
        for position, (index, argument) in enumerate(arguments):
            parameter = _parameter(function, position, written)
            if parameter.kind is Kind.CONSTANT or (
                parameter.kind is Kind.PROMPT and is_constant(argument)
            ):
                constants[parameter.name] = self._constant(argument, written, parameter.name, usage)
            elif parameter.kind is Kind.PROMPT:
                fields.append(Field(parameter.name, argument, index))
            else:
                fields.extend(self._fields(argument, index, node))
        fields = _distinct_names(fields)
        names = [field.name for field in fields]
        call = self._functions.bind(written, constants, options, names)
        if call.declaration.answer == Embedding():
            known = {**options, "dimensions": self._dimensions(call)}
            call = self._functions.bind(written, constants, known, names)
        return BoundCall(call, tuple(fields))

    def _options(
        self, node: exp.Anonymous, function: Function
    ) -> tuple[dict[str, Any], list[tuple[int, exp.Expr]]]:
        """Read the options of a call; return them, and its other arguments with their positions."""
        options: dict[str, Any] = {}
        others: list[tuple[int, exp.Expr]] = []
        parameters = {parameter.name for parameter in function.parameters}
        for index, argument in enumerate(node.expressions):
            if isinstance(argument, exp.Distinct | exp.Order):
                raise _wrong(
                    node.name,
                    "DISTINCT and ORDER BY are for aggregate functions; this one is called for "
                    "each row",
                )
            if not isinstance(argument, NAMED):
                others.append((index, argument))
                continue
            name = argument.this.name
            if name.lower() in parameters:
                raise _wrong(
                    node.name,
                    f"{name} is an argument, not an option: write its value without a name, at "
                    f"its place in {function.signature()}",
                )
            if name.lower() in (known.lower() for known in options):
                raise _wrong(node.name, f"option {name} is given twice")
            options[name] = self._constant(argument.expression, node.name, f"option {name}")
        return options, others

    def _constant(self, node: exp.Expr, function: str, what: str, usage: str = "") -> Any:
        if not is_constant(node):
            raise _wrong(function, f"{what} must be a constant, {_why_not_constant(node, usage)}")
        if isinstance(node, exp.Literal) and node.is_string:
            return node.this
        return self._fold(node)

    def _fields(self, node: exp.Expr, index: int, call: exp.Expr) -> Iterable[Field]:
        if isinstance(node, exp.Struct) and all(
            isinstance(member, exp.PropertyEQ) for member in node.expressions
        ):
            for member in node.expressions:
                yield Field(member.this.name, member.expression, index, member.this.name)
            return
        if is_star(node):
            yield from self._star(node, index, call)
            return
        yield Field(_name_of(node, self._functions), node, index)

    def _star(self, node: exp.Expr, index: int, call: exp.Expr) -> Iterable[Field]:
        select = call.find_ancestor(exp.Select)
        table = node.table if isinstance(node, exp.Column) else None
        columns = None
        if select is not None:
            columns = self._columns(in_scope(select, rows_of(select, [node.copy()])))
        if not columns and table:
            columns = self._columns(exp.Select(expressions=[exp.Star()]).from_(quote(table)))
        if not columns:
            raise _wrong(
                call.name,
                f"the columns of {text(node.copy())} cannot be listed here; name the columns "
                "instead",
            )
        for name, _ in columns:
            yield Field(name, column(name, table), index)


def as_written(error: BindError, name: str, written: str) -> BindError:
    """Return an error about the call of one function as one about that which a person wrote.

    name: the function that is called, in the formula of the one that is written, or that one.
    """
    opening = f"Binder Error: {name.upper()}:"
    said = str(error)
    if said.startswith(opening):
        said = f"Binder Error: {written.upper()}:{said.removeprefix(opening)}"
    return BindError(said, call=written)


def calls_of_formula(node: exp.Anonymous, functions: Functions) -> frozenset[str]:
    """Names of the functions that a formula calls, and that its arguments do not."""
    function = functions.get(node.name)
    formula = "" if function is None or function.formula is None else function.formula
    given = {
        call.name.lower() for part in node.expressions for call in part.find_all(exp.Anonymous)
    }
    return frozenset(name for name in functions.names - given if f"{name}(" in formula.lower())


def _written_out(node: exp.Anonymous, formula: str, functions: Functions) -> exp.Expr:
    """Read what a call stands for; its calls are known as those of the function as written."""
    made: exp.Expr = parse(f"SELECT {formula}").expressions[0]
    inner = calls_of_formula(node, functions)
    for call in made.find_all(exp.Anonymous):
        call.meta.pop("start", None)  # a place in the formula
        if call.name.lower() in inner:
            call.meta.update({WRITTEN: node.name, "start": node.meta.get("start")})
    return made


def name_items(root: exp.Expr, is_rewritten: Callable[[str], bool]) -> None:
    """Give select items that hold a call and have no name the name that DuckDB would give.

    That is the text of the expression; the text that runs is another.

    is_rewritten: whether a function of that name is.
    """
    for select in find_all(root, exp.Select):
        windows = [
            node
            for window in select.args.get("windows") or []
            for node in find_all(window, exp.Anonymous)
        ]
        over_calls = any(is_rewritten(node.name) for node in windows)
        for item in select.expressions:
            if isinstance(item, exp.Alias) or is_star(item):
                continue
            over = over_calls and any(window.alias for window in find_all(item, exp.Window))
            if over or any(is_rewritten(node.name) for node in find_all(item, exp.Anonymous)):
                shown = item.copy()
                for node in find_all(shown, exp.Anonymous):
                    node.set("this", node.name.lower())
                name = exp.to_identifier(text(shown), quoted=True)
                item.replace(exp.Alias(this=item.copy(), alias=name))


def name_arguments(
    root: exp.Expr, functions: Functions, is_rewritten: Callable[[str], bool]
) -> None:
    """Give arguments of calls that are named by their text that name, before the text changes.

    is_rewritten: whether a function of that name, which an argument holds, is.
    """
    for call in root.find_all(exp.Anonymous):
        function = functions.get(call.name)
        if function is None or function.over_set is not None:  # whose values have one name
            continue
        names: list[str] = []
        given = [part for part in call.expressions if not isinstance(part, NAMED)]
        for at, argument in enumerate(given):
            takes = _parameter(function, at, call.name).kind in (Kind.VALUE, Kind.VALUES)
            holds = any(is_rewritten(node.name) for node in argument.find_all(exp.Anonymous))
            if not takes or not holds or isinstance(argument, exp.Struct):
                continue
            names.append(_name_of(argument, functions))
            again = names.count(names[-1])
            name = f"{names[-1]} {again}" if again > 1 else names[-1]
            member = exp.PropertyEQ(
                this=exp.to_identifier(name, quoted=True), expression=argument.copy()
            )
            argument.replace(exp.Struct(expressions=[member]))


def name_items_as(root: exp.Expr, names: Sequence[str]) -> None:
    """Give the items of a query that hold a call the names that DuckDB says they have."""
    while isinstance(root, exp.SetOperation | exp.Subquery):
        root = root.this
    items = root.expressions if isinstance(root, exp.Select) else []
    if len(items) != len(names) or any(is_star(item.unalias()) for item in items):
        return
    for item, name in zip(items, names, strict=True):
        if not isinstance(item, exp.Alias) and item.find(exp.Anonymous) is not None:
            alias = exp.to_identifier(name, quoted=True)
            item.replace(exp.Alias(this=item.copy(), alias=alias))


def _wrong(function: str, what: str) -> BindError:
    """Return an error that opens as DuckDB's do, and with the function that it is about."""
    return BindError(f"Binder Error: {function.upper()}: {what}")


def _why_not_constant(node: exp.Expr, usage: str) -> str:
    """Say what stands where a constant has to, and how it may have been meant.

    usage: the signature of the function, where it is an argument.
    """
    written = text(node.copy())
    if isinstance(node.unnest(), exp.Query):
        return (
            f"not a query: SET VARIABLE found = {written} computes it before, and "
            "getvariable('found') is a constant"
        )
    columns = [each for each in node.find_all(exp.Column) if not each.table]
    as_texts = _with_texts(node, {each.name for each in columns})
    if columns and all(each.this.args.get("quoted") for each in columns):
        return f"not {written}: double quotes are around names, texts have single ones: {as_texts}"
    if columns and all(is_type(each.name) for each in columns):
        return f"not {written}: a type is written as a text: {as_texts}"
    return f"not {written}, which can differ from row to row{f': {usage}' if usage else ''}"


def _with_texts(node: exp.Expr, names: Collection[str]) -> str:
    """Write an expression with texts in the place of the columns of some names."""

    def as_text(part: exp.Expr) -> exp.Expr:
        is_one = isinstance(part, exp.Column) and part.name in names
        return exp.Literal.string(part.name) if is_one else part

    return text(node.transform(as_text))


def _refuse_around(node: exp.Anonymous) -> None:
    """Raise `BindError` for a joint call where DuckDB would not say of it what is wrong."""
    if isinstance(node.parent, exp.Filter):
        raise _wrong(
            node.name,
            "FILTER is for aggregate functions; leave rows out with WHERE, in a subquery where "
            "others are to stay",
        )
    if isinstance(node.find_ancestor(exp.Lambda, exp.Comprehension, exp.Query), LAMBDAS):
        raise BindError(
            f"Binder Error: {node.name.upper()} is about all rows of a SELECT together and cannot "
            "stand inside a lambda; unnest the list in a subquery and call it there"
        )


def _put_over(node: exp.Expr, made: ModelCall) -> None:
    """Put a joint call in the place of its text: as a window function, with or without OVER."""
    window = window_of(node)
    (node if window is None else window).replace(_over(made, window))


def _over(call: ModelCall, window: exp.Window | None) -> exp.Window:
    """Return a joint call as a window function; OVER () and no OVER are the same."""
    if window is None or of_all_rows(window):
        return exp.Window(this=call)
    over = window.copy()
    over.set("this", call)
    return over


def _fold_empty(holder: exp.Expr, calls: Mapping[str, Call]) -> None:
    """Put NULL in the place of calls about nothing but NULLs, which no model is asked, in place.

    Not of those whose answer has parts: DuckDB knows no types of the parts of a NULL. A vector
    that is the argument of a function is not read in parts. Nor of keys, and of what is written
    as one of them.
    """
    nodes = list(holder.find_all(ModelCall))
    keys = [node for node in nodes if isinstance(node.find_ancestor(*KEYS, exp.Query), KEYS)]
    for node in reversed(nodes):  # calls among arguments first
        declaration = calls[node.spec].declaration
        about = node.expressions
        if not about or declaration.joint is not None or not all(map(_is_null, about)):
            continue
        returns = result_type(declaration)
        whole = calls[node.spec].embeds and isinstance(node.parent, exp.Anonymous)
        has_parts = isinstance(returns, Json | ListType | StructType | MapType) and not whole
        if node not in keys and not has_parts:
            node.replace(parse(f"SELECT CAST(NULL AS {returns.to_duckdb()})").expressions[0])


def _is_null(node: exp.Expr) -> bool:
    """Whether an expression is NULL, of whatever type."""
    while isinstance(node, exp.Paren | exp.Cast | exp.TryCast):
        node = node.this
    return isinstance(node, exp.Null)


def _casts(type_: SqlType) -> int:
    """How many casts `SqlType.cast_sql` writes around a call."""
    return type_.cast_sql("").upper().count("CAST(")


def _without_casts(node: exp.Expr, casts: int) -> exp.Expr:
    while isinstance(node.parent, exp.Paren) or (casts and isinstance(node.parent, exp.Cast)):
        node = node.parent
        casts -= isinstance(node, exp.Cast)
    return node


def _unrendered(fragment: exp.Expr) -> exp.Expr:
    """From the rendering of a field back to the field: see `json_fragment`."""
    inner = fragment.unnest()
    inner = inner.expressions[0].unnest() if isinstance(inner, exp.Anonymous) else inner
    inner = inner.this.unnest() if isinstance(inner, exp.Cast) else inner
    assert isinstance(inner, exp.Anonymous) and inner.name.lower() == "to_json"
    field: exp.Expr = inner.expressions[0]
    return field.copy()


def is_constant(node: exp.Expr) -> bool:
    """Whether an expression has one value for the whole statement."""
    rowwise = (exp.Column, exp.Query, ModelCall, exp.Star)
    return node.find(*rowwise) is None


def _parameter(function: Function, position: int, written: str) -> Parameter:
    parameters = function.parameters
    if position < len(parameters):
        return parameters[position]
    if parameters and parameters[-1].kind is Kind.VALUES:
        return parameters[-1]
    raise _wrong(written, f"too many arguments: {function.signature()}")


def _name_of(node: exp.Expr, functions: Functions) -> str:
    """The name of a field: its column's, else its text, calls in it by their function."""
    if isinstance(node, exp.Column | exp.Dot) and node.name:
        return str(node.name)
    holder = held(node.copy())
    for call in list(find_all(holder, ModelCall, exp.Anonymous)):
        function = _function_of(call, functions)
        if function is not None:
            call.replace(exp.Var(this=function.name))
    return text(released(holder))


def _function_of(node: exp.Expr, functions: Functions) -> Function | None:
    """The function of a call, bound or as it is written."""
    if isinstance(node, ModelCall):
        return functions.get(json.loads(node.spec)["function"])
    return functions.get(node.name)


def _distinct_names(fields: list[Field]) -> list[Field]:
    """Columns of the same name are called by their qualified names, expressions are numbered."""
    names = [field.name for field in fields]
    result: list[Field] = []
    for at, field in enumerate(fields):
        node, name = field.node, field.name
        if names.count(name) > 1 and field.member is None:
            if not isinstance(node, exp.Column):
                earlier = names[:at].count(name)
                name = f"{name} {earlier + 1}" if earlier else name
            elif node.table and node.name == name:
                name = f"{node.text('table')}.{name}"
        result.append(replace(field, name=name))
    return result
