"""Uses of table functions in a tree: finding them, what their arguments read, replacing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from quackllm.engine.binder import is_constant
from quackllm.engine.catalog import Schema
from quackllm.engine.table_functions.base import TableFunction
from quackllm.engine.table_functions.names import read_name
from quackllm.engine.table_functions.registry import TableFunctions
from quackllm.errors import BindError
from quackllm.optimizer.scope import enclosing, in_scope, rows_of
from quackllm.optimizer.sql import column, conjunction, conjuncts, text
from quackllm.udfs.base import Kind

TABLE = "table"
"""What a parameter is called whose argument names a table."""

BESIDE = ("sample", "pivots", "joins", "laterals")
"""What may stand beside an entry in FROM and stays there."""

Columns = Callable[[exp.Query], Schema | None]
"""Names and types of a query's output, None when it does not bind."""


@dataclass(frozen=True)
class Entry:
    """One use of a table function in FROM.

    node: what stands in FROM. arguments: expressions by the name of their parameter.
    options: expressions by name as written.
    """

    node: exp.Expr
    function: TableFunction
    arguments: dict[str, exp.Expr]
    options: dict[str, exp.Expr]

    @property
    def varying(self) -> dict[str, exp.Expr]:
        """Arguments that differ from row to row."""
        return {
            name: node
            for name, node in self.arguments.items()
            if name in self.function.varying and not is_constant(node)
        }


def entries_of(root: exp.Expr, functions: TableFunctions) -> list[Entry]:
    """List the uses in a tree in the order of the text. Raises `BindError`."""
    return [
        _entry(node, function)
        for node in root.walk(bfs=False)
        if (function := function_of(node, functions)) is not None
    ]


def function_of(node: exp.Expr, functions: TableFunctions) -> TableFunction | None:
    """Return the table function that stands in FROM at a node, if one does."""
    if not isinstance(node, exp.Table | exp.Lateral) or not isinstance(node.this, exp.Anonymous):
        return None
    return functions.get(node.this.name)


def named_tables(root: exp.Expr, functions: TableFunctions) -> list[exp.Table]:
    """List the tables that arguments name by a text, as they would stand in FROM."""
    found = []
    for node in root.walk():
        function = function_of(node, functions)
        if function is None:
            continue
        for parameter, argument in zip(function.parameters, node.this.expressions, strict=False):
            if parameter.name == TABLE and argument.is_string:
                found.append(read_name(argument.this))
    return found


def _entry(node: exp.Expr, function: TableFunction) -> Entry:
    given: list[exp.Expr] = []
    options: dict[str, exp.Expr] = {}
    name = node.this.name.upper()
    for part in node.this.expressions:
        if isinstance(part, exp.PropertyEQ | exp.Kwarg):
            options[part.this.name] = part.expression
        else:
            given.append(part)
    if len(given) != len(function.parameters):
        raise BindError(
            f"Binder Error: {name}: wrong number of arguments: {function.signature()}, "
            "options as name := value"
        )
    arguments = dict(zip((each.name for each in function.parameters), given, strict=True))
    for parameter in function.parameters:
        node_ = arguments[parameter.name]
        if parameter.kind is Kind.CONSTANT and not is_constant(node_):
            raise BindError(
                f"Binder Error: {name}: {parameter.name} must be a constant, such as a text in "
                f"quotes, not {text(node_.copy())}"
            )
    return Entry(node, function, arguments, options)


def distinct_arguments(entry: Entry, plain: Columns, bound: Columns) -> exp.Query:
    """Select the distinct values of the varying arguments, under the parameters' names.

    They read what stands before the entry in its FROM, or the rows of a query around it, of
    which only those count that pass the conditions which read nothing else and call no model.

    plain: of a query without calls. bound: of any query. Raises `BindError` where the
    arguments bind to neither.
    """
    items: list[exp.Expr] = [
        exp.Alias(this=entry.arguments[name].copy(), alias=exp.to_identifier(name, quoted=True))
        for name in entry.function.varying
    ]
    alone = in_scope(entry.node, exp.Select(expressions=[item.copy() for item in items]))
    if bound(alone) is not None:  # a subquery that reads nothing around it
        return alone
    place: exp.Expr = entry.node
    select = _select_around(place)
    sources: list[exp.Expr] = []
    while select is not None:
        rows = _rows_before(place, select, items)
        if rows is not None:
            rows.set("joins", [*rows.args.get("joins", []), *sources])
            found = in_scope(select, _filtered(rows, select, plain))
            if bound(found) is not None:
                return found
            sources = [*_as_joins(rows), *sources]
        place, select = select, enclosing(select)
    shown = ", ".join(text(node.copy()) for node in entry.varying.values())
    raise BindError(
        f"Binder Error: {entry.function.name.upper()}: {shown} is neither a constant nor made of "
        "columns of what stands before it in FROM"
    )


def _select_around(node: exp.Expr) -> exp.Select | None:
    found = node.find_ancestor(exp.Select)
    return found if isinstance(found, exp.Select) else None


def _rows_before(place: exp.Expr, select: exp.Select, items: list[exp.Expr]) -> exp.Select | None:
    """Select items of the rows that a place in a query may read; None where there are none."""
    if select.args.get("from_") is None or _holds(select.args["from_"], place):
        return None
    rows = rows_of(select, [item.copy() for item in items])
    at = next((i for i, j in enumerate(select.args.get("joins", [])) if _holds(j, place)), None)
    if at is not None:
        rows.set("joins", rows.args["joins"][:at])
    return rows


def _holds(tree: exp.Expr, node: exp.Expr | None) -> bool:
    while node is not None and node is not tree:
        node = node.parent
    return node is tree


def _as_joins(rows: exp.Select) -> list[exp.Join]:
    """Return the sources of a query as the last part of another's FROM."""
    first = exp.Join(this=rows.args["from_"].this.copy())
    return [first, *(join.copy() for join in rows.args.get("joins", []))]


def _filtered(rows: exp.Select, select: exp.Select, plain: Columns) -> exp.Select:
    """Keep the conditions of a query that its rows so far can decide; make them distinct."""
    where = select.args.get("where")
    kept: list[exp.Expr] = []
    for part in conjuncts(where.this if where is not None else None):
        tried = rows.copy()
        tried.set("where", exp.Where(this=part.copy()))
        if part.find(exp.Query) is None and plain(in_scope(select, tried)) is not None:
            kept.append(part.copy())
    condition = conjunction(kept)
    if condition is not None:
        rows.set("where", exp.Where(this=condition))
    rows.set("distinct", exp.Distinct())
    return rows


def put_table(entry: Entry, table: str, names: Sequence[str]) -> None:
    """Put a temporary table in the place of an entry, in its tree.

    table: its columns are those of `result_columns`, then those of `key_columns`.
    names: what the first ones are called in the statement.
    """
    place = exp.Table(this=exp.to_identifier(table, quoted=True), db=exp.to_identifier("temp"))
    rows = exp.Select(expressions=[exp.Star()]).from_(place)
    keys = key_columns(len(entry.varying))
    condition = conjunction(
        [
            exp.NullSafeEQ(this=column(key, table), expression=exp.paren(node.copy()))
            for key, node in zip(keys, entry.varying.values(), strict=True)
        ]
    )
    if condition is not None:
        rows.set("where", exp.Where(this=condition))
    # Two levels: a name in an argument must not mean a column of the table itself.
    items = [
        exp.Alias(this=column(inner), alias=exp.to_identifier(name, quoted=True))
        for inner, name in zip(result_columns(len(names)), names, strict=True)
    ]
    derived: exp.Expr = exp.Subquery(
        this=exp.Select(expressions=items).from_(rows.subquery("rows"))
    )
    beside = {key: entry.node.args[key] for key in BESIDE if entry.node.args.get(key)}
    # DuckDB joins either laterally; sqlglot writes nothing that stands beside a LATERAL.
    if condition is not None and not beside:
        derived = exp.Lateral(this=derived)
    alias = entry.node.args.get("alias")
    alias = exp.TableAlias() if alias is None else alias.copy()
    if alias.this is None:
        alias.set("this", exp.to_identifier(entry.function.name))
    derived.set("alias", alias)
    for key, value in beside.items():
        derived.set(key, value)
    entry.node.replace(derived)


def result_columns(count: int) -> list[str]:
    """Names of the columns of a table function's rows in their temporary table."""
    return [f"__llm_c{number}" for number in range(count)]


def key_columns(count: int) -> list[str]:
    """Names of the columns there that hold the arguments which a row belongs to."""
    return [f"__llm_k{number}" for number in range(count)]
