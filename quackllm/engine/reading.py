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
    first, second = json.loads(rows[0]), json.loads(rows[1])
    if first.get("error") or second.get("error"):
        return False
    nulls_last = str(rows[2]).upper() == "NULLS_LAST"
    return bool(_normalized(first, nulls_last) == _normalized(second, nulls_last))


def _normalized(node: Any, nulls_last: bool, in_interval: bool = False) -> Any:
    if isinstance(node, list):
        return [_normalized(part, nulls_last, in_interval) for part in node]
    if not isinstance(node, dict):
        return node
    in_interval = in_interval or bool(INTERVAL_FUNCTION.match(str(node.get("function_name"))))
    result = {
        name: _normalized(value, nulls_last, in_interval)
        for name, value in node.items()
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
    if result.get("type") == "OPERATOR_NOT":
        result = _negated(result)
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
    inner = node["children"][0]
    if isinstance(inner, dict) and inner.get("type") == "OPERATOR_IS_NULL":
        return {**inner, "type": "OPERATOR_IS_NOT_NULL", "alias": node.get("alias", "")}
    if isinstance(inner, dict) and inner.get("type") == "COMPARE_NOT_DISTINCT_FROM":
        return {**inner, "type": "COMPARE_DISTINCT_FROM", "alias": node.get("alias", "")}
    return node
