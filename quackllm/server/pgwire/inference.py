"""Types of parameters that the client has not said, from where they stand.

DuckDB leaves such types open until a value comes; drivers such as asyncpg want to know
them before. They follow from casts, from what a parameter is compared or calculated with,
from LIMIT, and from the columns that INSERT and UPDATE fill. Nothing is run for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError

from quackllm.engine.statement import calls_in
from quackllm.optimizer.sql import parse, text
from quackllm.server.pgwire import calls, statements
from quackllm.server.pgwire.parameters import Place, substitute
from quackllm.server.pgwire.types import ARRAY_OIDS, INT8, wire_type
from quackllm.server.pgwire.types import TEXT as TEXT_TYPE

if TYPE_CHECKING:
    from quackllm import Connection
    from quackllm.server.pgwire.statements import Parsed
    from quackllm.server.pgwire.worker import Worker

TEXT = TEXT_TYPE.oid

_SIDES = (
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Like,
    exp.ILike, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.IntDiv,
)  # fmt: skip
"""Operators whose two sides are of one type, as far as it is known."""

_PARAMETER = re.compile(r"(?<![\w$])\$\d+")

_CAST = re.compile(r"\$(\d+)\s*::\s*(?:pg_catalog\.)?(\w+)\s*(\[\])?")
_CATALOG_TYPES = {"oid": 26, "name": 19, "regclass": 25}

TypesOf = Callable[[str], "list[Any] | None"]
"""The DuckDB types of the columns of a query, None when it does not bind."""


def parameter_oids(parsed: Parsed, connection: Connection) -> dict[int, int]:
    """Return the oids found, by the number of the parameter."""
    found = _casts(parsed.sql)
    try:
        root = parse(_PARAMETER.sub(r" \g<0> ", parsed.sql))
    except (SqlglotError, RecursionError):
        return found

    def types_of(query: str) -> list[Any] | None:
        try:
            return list(calls.relation(connection, query).types)
        except duckdb.Error:
            return None

    for node in root.find_all(exp.Placeholder):
        number = _number(node)
        if number and number not in found:
            oid = _oid(node, root, types_of)
            if oid is not None:
                found[number] = oid
    return found


def _casts(sql: str) -> dict[int, int]:
    """Read the casts to types that are PostgreSQL's alone, as catalog queries have them."""
    found = {}
    for number, name, array in _CAST.findall(sql):
        oid = _CATALOG_TYPES.get(name.lower())
        if oid is not None:
            found[int(number)] = ARRAY_OIDS[oid] if array else oid
    return found


def _number(node: exp.Placeholder) -> int:
    written = node.this.name if isinstance(node.this, exp.Expr) else str(node.this)
    return int(written) if written.isdigit() else 0


def _oid(node: exp.Expr, root: exp.Expr, types_of: TypesOf) -> int | None:
    child, parent = node, node.parent
    while isinstance(parent, (exp.Paren, exp.Neg)):
        child, parent = parent, parent.parent
    if isinstance(parent, exp.Cast):
        return _of_query(f"SELECT CAST(NULL AS {text(parent.to)})", types_of)
    if isinstance(parent, (exp.Limit, exp.Offset)):
        return INT8.oid
    if isinstance(parent, exp.Any):
        return _of_any(parent, root, types_of)
    if isinstance(parent, exp.DPipe):
        return TEXT
    other = _other_side(child, parent)
    if other is not None:
        return _of_expression(other, root, types_of)
    return _of_insert(child, root, types_of)


def _other_side(child: exp.Expr, parent: exp.Expr | None) -> exp.Expr | None:
    """Return an expression that the parameter has the type of, if one is beside it."""
    if isinstance(parent, _SIDES):
        other = parent.expression if parent.this is child else parent.this
    elif isinstance(parent, (exp.In, exp.Between)):
        beside = [parent.this, *parent.expressions, parent.args.get("low"), parent.args.get("high")]
        other = next((e for e in beside if e is not None and e is not child), None)
    else:
        return None
    return None if other is None or other.find(exp.Placeholder) else other


def _of_any(parent: exp.Any, root: exp.Expr, types_of: TypesOf) -> int | None:
    comparison = parent.parent
    other = _other_side(parent, comparison)
    element = _of_expression(other, root, types_of) if other is not None else None
    return ARRAY_OIDS.get(element) if element is not None else None


def _of_query(query: str, types_of: TypesOf) -> int | None:
    found = types_of(query)
    return wire_type(found[0]).oid if found else None


def _of_expression(expression: exp.Expr, root: exp.Expr, types_of: TypesOf) -> int | None:
    """Ask for the type of an expression in the place where it stands."""
    scope = expression.find_ancestor(exp.Select, exp.Update, exp.Delete)
    if scope is None:
        return _of_query(f"SELECT {text(expression)}", types_of)
    if isinstance(scope, exp.Select):
        query = exp.Select(expressions=[expression.copy()])
        for part in ("from_", "from", "joins", "laterals", "with_", "with"):
            if scope.args.get(part):
                copied = scope.args[part]
                query.set(
                    part, [j.copy() for j in copied] if isinstance(copied, list) else copied.copy()
                )
        for part in ("with_", "with"):
            if scope is not root and root.args.get(part) and not query.args.get(part):
                query.set(part, root.args[part].copy())
    else:
        table = scope.this
        query = exp.Select(expressions=[expression.copy()]).from_(table.copy())
    for parameter in list(query.find_all(exp.Placeholder)):
        parameter.replace(exp.Null())
    return _of_query(text(query), types_of)


def _of_insert(child: exp.Expr, root: exp.Expr, types_of: TypesOf) -> int | None:
    """Return the type of the column of an INSERT that the parameter is for."""
    if not isinstance(root, exp.Insert):
        return None
    row = child.parent
    if not isinstance(row, (exp.Tuple, exp.Select)) or child not in row.expressions:
        return None
    if isinstance(row, exp.Select) and row is not root.expression:
        return None
    position = next(i for i, e in enumerate(row.expressions) if e is child)
    target = root.this
    table = target.this if isinstance(target, exp.Schema) else target
    columns = target.expressions if isinstance(target, exp.Schema) else []
    items = ", ".join(text(column) for column in columns) or "*"
    found = types_of(f"SELECT {items} FROM {text(table)}")
    return wire_type(found[position]).oid if found and position < len(found) else None


def typical(
    parsed: Parsed, found: Sequence[Place], samples: Mapping[int, str], worker: Worker
) -> Parsed:
    """Return the statement with a value of the right type for each parameter.

    What DuckDB is to bind has NULLs; prompts and options of LLM functions have to be
    there, so parameters inside calls are a text or zero.
    """
    if not found:
        return parsed
    functions = worker.connection.llm_engine.functions
    spans = [(call.start, call.end) for call in calls_in(parsed.statement, functions)]
    inside = {place.number for place in found if any(a <= place.start < b for a, b in spans)}
    values = {
        number: _value(sample) if number in inside else sample for number, sample in samples.items()
    }
    for place in found:
        if place.bare:
            values[place.number] = "0"
    [again] = statements.parse(substitute(parsed.sql, found, values).sql)
    return again


def _value(sample: str) -> str:
    if "VARCHAR" in sample or sample == "NULL":
        return "'text'"
    kind = sample.removeprefix("CAST(NULL AS ").removesuffix(")")
    return f"CAST('0' AS {kind})" if kind in ("SMALLINT", "INTEGER", "BIGINT", "DOUBLE") else sample
