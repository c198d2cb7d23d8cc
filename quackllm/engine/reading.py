"""A second reading of a statement: does sqlglot's tree say what DuckDB's parser reads?

DuckDB can print its own parse of a SELECT as JSON. Before a tree is planned, the
statement and the text written back from the tree are both given to that parser; only
when the two readings are equal may the planner move parts of the statement about.
A difference costs speed, never an answer: the statement then runs unrewritten.
"""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb

IGNORED = frozenset(
    {"query_location", "query_location_length", "syntax_type", "is_operator", "is_implicit"}
)
"""Where something stands in the text and which of two spellings was used."""

TYPE_SYNONYMS = {
    "text": "varchar",
    "string": "varchar",
    "bpchar": "varchar",
    "char": "varchar",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "long": "bigint",
    "int2": "smallint",
    "short": "smallint",
    "int1": "tinyint",
    "float8": "double",
    "float4": "float",
    "real": "float",
    "bool": "boolean",
    "numeric": "decimal",
    "datetime": "timestamp",
    "timestamp with time zone": "timestamptz",
}
FUNCTION_SYNONYMS = {"**": "power", "^@": "starts_with", "position": "strpos"}
INTERVAL_FUNCTION = re.compile(r"to_(\w+)s$")
LOCATION = re.compile(r'"query_location(?:_length)?":\d+')
NOWHERE = '"query_location":0'
"""Where something stands in the text, in DuckDB's JSON; inside its strings quotes are escaped."""
READ = '{"error":false'
"""Begins DuckDB's JSON of a statement that it could read."""


def same_reading(connection: duckdb.DuckDBPyConnection, sql: str, written: str) -> bool:
    """Whether DuckDB's parser reads both texts as the same SELECT statement.

    False when either is not a SELECT, or does not parse.
    """
    if ";" in sql or ";" in written:
        sql, written = sql.rstrip().rstrip(";"), written.rstrip().rstrip(";")
    try:
        rows = connection.execute(
            "SELECT json_serialize_sql($a), json_serialize_sql($b), "
            "current_setting('default_null_order')",
            {"a": sql, "b": written},
        ).fetchall()[0]
    except duckdb.Error:
        return False
    first, second = (LOCATION.sub(NOWHERE, row) for row in rows[:2])
    if first == second and first.startswith(READ):
        return True
    one, other = json.loads(first), json.loads(second)
    if one.get("error") or other.get("error"):
        return False
    return _alike(one, other, str(rows[2]).upper() == "NULLS_LAST")


def _alike(one: Any, other: Any, nulls_last: bool, in_interval: bool = False) -> bool:
    """Whether two parts of readings say the same; equal parts are not walked through.

    So a list of a hundred thousand literals costs one comparison.
    """
    if one == other:
        return True
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(
            _alike(a, b, nulls_last, in_interval) for a, b in pairs
        )
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return False
    in_interval = in_interval or bool(INTERVAL_FUNCTION.match(str(one.get("function_name"))))
    one, other = (_normalized(node, nulls_last, in_interval) for node in (one, other))
    return one.keys() == other.keys() and all(
        _alike(value, other[name], nulls_last, in_interval) for name, value in one.items()
    )


def _normalized(node: dict[str, Any], nulls_last: bool, in_interval: bool) -> dict[str, Any]:
    """A node of a reading in one of the spellings that mean the same; its parts as they are."""
    result = {
        name: value
        for name, value in _negated(node).items()
        if name not in IGNORED and name != "qualified_name"
    }
    if "type_name" in result:
        name = str(result["type_name"]).lower()
        result["type_name"] = TYPE_SYNONYMS.get(name, name)
    if "function_name" in result:
        name = str(result["function_name"]).lower()
        result["function_name"] = FUNCTION_SYNONYMS.get(name, name)
    if nulls_last and result.get("null_order") == "NULLS LAST":
        result["null_order"] = "ORDER_DEFAULT"
    if "kind" in result and "text" in result:
        result["text"] = (
            str(result["text"]).replace("_", "")
            if (result["kind"] in ("INTEGER", "FLOAT", "DECIMAL"))
            else result["text"]
        )
        if in_interval:
            result["kind"] = "INTERVAL COUNT"
    return result


def _negated(node: dict[str, Any]) -> dict[str, Any]:
    """NOT (x IS TRUE) is x IS NOT TRUE, NOT (x IS NULL) is x IS NOT NULL: never NULL."""
    inner = node["children"][0] if node.get("type") == "OPERATOR_NOT" else None
    if isinstance(inner, dict) and inner.get("type") == "OPERATOR_IS_NULL":
        return {**inner, "type": "OPERATOR_IS_NOT_NULL", "alias": node.get("alias", "")}
    if isinstance(inner, dict) and inner.get("type") == "COMPARE_NOT_DISTINCT_FROM":
        return {**inner, "type": "COMPARE_DISTINCT_FROM", "alias": node.get("alias", "")}
    return node
