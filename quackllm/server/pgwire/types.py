"""DuckDB's types as PostgreSQL's: oids, sizes, and how DuckDB writes a value of each.

What PostgreSQL has no type for travels as the nearest that clients read: unsigned and
128-bit integers as the next wider type or numeric, STRUCT, MAP, UNION and lists of lists
as json, ENUM as text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

from quackllm.optimizer.sql import quote

Sql: TypeAlias = Callable[[str], str]
"""Makes an expression of an expression, both DuckDB's SQL."""


class Form(Enum):
    """How the values of a type are laid out in the binary format."""

    BOOL = "bool"
    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    NUMERIC = "numeric"
    TEXT = "text"
    BYTEA = "bytea"
    DATE = "date"
    TIME = "time"
    TIMETZ = "timetz"
    TIMESTAMP = "timestamp"
    INTERVAL = "interval"
    UUID = "uuid"
    BIT = "bit"
    ARRAY = "array"


@dataclass(frozen=True)
class WireType:
    """A PostgreSQL type. size is -1 where it varies; modifier as in pg_attribute.atttypmod.

    text_sql, binary_sql: make DuckDB's SQL of an expression's that gives what the encoder
        takes; None when it takes the column as Arrow has it.
    """

    oid: int
    name: str
    size: int
    form: Form
    text_sql: Sql | None = None
    binary_sql: Sql | None = None
    modifier: int = -1
    element: WireType | None = None


@dataclass(frozen=True)
class Column:
    """A column of a result.

    sql_type: DuckDB's type that stands for it in Arrow, see `arrow_sql_type`.
    """

    name: str
    type: WireType
    sql_type: str = "VARCHAR"


def _as_text(value: str) -> str:
    return f"CAST({value} AS VARCHAR)"


def _with_bc(value: str) -> str:
    """DuckDB writes '0044-03-15 (BC) 12:00:00', PostgreSQL '0044-03-15 12:00:00 BC'.

    The pattern is for the few that are so old; a year's margin is for time zones.
    """
    text = f"CAST({value} AS VARCHAR)"
    written = rf"regexp_replace({text}, '^(.*) \(BC\)(.*)$', '\1\2 BC')"
    return f"CASE WHEN {value} < DATE '0002-01-01' THEN {written} ELSE {text} END"


def _timestamp(value: str) -> str:
    return f"CAST({value} AS TIMESTAMP)"


def _timestamp_text(value: str) -> str:
    return _with_bc(_timestamp(value))


def _interval(value: str) -> str:
    return f"replace(CAST({value} AS VARCHAR), 'month', 'mon')"


def _blob(value: str) -> str:
    return rf"'\x' || lower(hex({value}))"


def _time(value: str) -> str:
    return f"CAST({value} AS TIME)"


def _time_and_zone(value: str) -> str:
    """Microseconds and PostgreSQL's zone, which counts seconds to the west."""
    parts = f"[epoch_us(CAST({value} AS TIME)), -date_part('timezone', {value})]"
    return f"CASE WHEN {value} IS NOT NULL THEN {parts} END"


def _uuid(value: str) -> str:
    return f"unhex(replace(CAST({value} AS VARCHAR), '-', ''))"


def _json(value: str) -> str:
    return f"CAST(to_json({value}) AS VARCHAR)"


BOOL = WireType(16, "bool", 1, Form.BOOL)
BYTEA = WireType(17, "bytea", -1, Form.BYTEA, _blob)
CHAR = WireType(18, "char", 1, Form.TEXT, _as_text, _as_text)
NAME = WireType(19, "name", 64, Form.TEXT)
INT8 = WireType(20, "int8", 8, Form.INT8)
INT2 = WireType(21, "int2", 2, Form.INT2)
INT4 = WireType(23, "int4", 4, Form.INT4)
TEXT = WireType(25, "text", -1, Form.TEXT)
OID = WireType(26, "oid", 4, Form.INT4)
JSON = WireType(114, "json", -1, Form.TEXT, _as_text, _as_text)
FLOAT4 = WireType(700, "float4", 4, Form.FLOAT4)
FLOAT8 = WireType(701, "float8", 8, Form.FLOAT8)
VARCHAR = WireType(1043, "varchar", -1, Form.TEXT)
DATE = WireType(1082, "date", 4, Form.DATE, _with_bc)
TIME = WireType(1083, "time", 8, Form.TIME, _as_text, _time)
TIMESTAMP = WireType(1114, "timestamp", 8, Form.TIMESTAMP, _with_bc)
TIMESTAMPTZ = WireType(1184, "timestamptz", 8, Form.TIMESTAMP, _with_bc)
INTERVAL = WireType(1186, "interval", 16, Form.INTERVAL, _interval)
TIMETZ = WireType(1266, "timetz", 12, Form.TIMETZ, _as_text, _time_and_zone)
VARBIT = WireType(1562, "varbit", -1, Form.BIT, _as_text, _as_text)
NUMERIC = WireType(1700, "numeric", -1, Form.NUMERIC, _as_text, _as_text)
UUID = WireType(2950, "uuid", 16, Form.UUID, _as_text, _uuid)

_TIMESTAMP_OF_OTHER_UNIT = replace(TIMESTAMP, text_sql=_timestamp_text, binary_sql=_timestamp)
_TEXT_OF_OTHER_TYPE = replace(TEXT, text_sql=_as_text, binary_sql=_as_text)
_JSON_OF_NESTED = replace(JSON, text_sql=_json, binary_sql=_json)

ARRAY_OIDS = {
    16: 1000, 17: 1001, 18: 1002, 19: 1003, 20: 1016, 21: 1005, 23: 1007, 25: 1009, 26: 1028,
    114: 199, 700: 1021, 701: 1022, 1043: 1015, 1082: 1182, 1083: 1183, 1114: 1115, 1184: 1185,
    1186: 1187, 1266: 1270, 1562: 1563, 1700: 1231, 2950: 2951,
}  # fmt: skip
"""Oid of a type → oid of arrays of it."""

_SIMPLE = {
    "BOOLEAN": BOOL,
    "TINYINT": INT2,
    "UTINYINT": INT2,
    "SMALLINT": INT2,
    "USMALLINT": INT4,
    "INTEGER": INT4,
    "UINTEGER": INT8,
    "BIGINT": INT8,
    "UBIGINT": NUMERIC,
    "HUGEINT": NUMERIC,
    "UHUGEINT": NUMERIC,
    "BIGNUM": NUMERIC,
    "FLOAT": FLOAT4,
    "DOUBLE": FLOAT8,
    "VARCHAR": TEXT,
    "JSON": JSON,
    "BLOB": BYTEA,
    "DATE": DATE,
    "TIME": TIME,
    "TIME_NS": TIME,
    "TIME WITH TIME ZONE": TIMETZ,
    "TIMESTAMP": TIMESTAMP,
    "TIMESTAMP_S": _TIMESTAMP_OF_OTHER_UNIT,
    "TIMESTAMP_MS": _TIMESTAMP_OF_OTHER_UNIT,
    "TIMESTAMP_NS": _TIMESTAMP_OF_OTHER_UNIT,
    "TIMESTAMP WITH TIME ZONE": TIMESTAMPTZ,
    "INTERVAL": INTERVAL,
    "UUID": UUID,
    "BIT": VARBIT,
    '"NULL"': _TEXT_OF_OTHER_TYPE,
}


def wire_type(duckdb_type: Any) -> WireType:
    """Return the PostgreSQL type for a `DuckDBPyType`."""
    simple = _SIMPLE.get(str(duckdb_type))
    if simple is not None:
        return simple
    kind = duckdb_type.id
    if kind == "decimal":
        parts = dict(duckdb_type.children)
        return numeric(parts["precision"], parts["scale"])
    if kind in ("list", "array"):
        child = dict(duckdb_type.children)["child"]
        if child.id not in ("list", "array", "struct", "map", "union"):
            return array_of(wire_type(child))
    if kind in ("list", "array", "struct", "map", "union", "variant"):
        return _JSON_OF_NESTED
    return _TEXT_OF_OTHER_TYPE


def numeric(precision: int, scale: int) -> WireType:
    """Return numeric(precision, scale)."""
    return replace(NUMERIC, modifier=((precision << 16) | scale) + 4)


def array_of(element: WireType) -> WireType:
    """Return the type of one-dimensional arrays of another."""
    binary = element.binary_sql

    def transformed(value: str) -> str:
        assert binary is not None
        return f"list_transform({value}, lambda x: {binary('x')})"

    return WireType(
        ARRAY_OIDS.get(element.oid, ARRAY_OIDS[TEXT.oid]),
        "_" + element.name,
        -1,
        Form.ARRAY,
        lambda value: _array_text(value, _element_text(element)),
        None if binary is None else transformed,
        element=element,
    )


def _array_text(value: str, element: str) -> str:
    elements = f"list_transform({value}, lambda x: coalesce({element}, 'NULL'))"
    joined = f"coalesce(array_to_string({elements}, ','), '')"
    return f"CASE WHEN {value} IS NOT NULL THEN '{{' || {joined} || '}}' END"


def _element_text(element: WireType) -> str:
    if element.form is Form.BOOL:
        return "CASE WHEN x THEN 't' WHEN NOT x THEN 'f' END"
    if element.form in (Form.FLOAT4, Form.FLOAT8):
        return "replace(replace(CAST(x AS VARCHAR), 'inf', 'Infinity'), 'nan', 'NaN')"
    text = (element.text_sql or _as_text)("x")
    if element.form in (Form.INT2, Form.INT4, Form.INT8, Form.NUMERIC, Form.UUID, Form.BIT):
        return text
    escaped = rf"""replace(replace({text}, '\', '\\'), '"', '\"')"""
    special = rf"""regexp_matches({text}, '[{{}},"\\\s]')"""
    plain = f"{text} <> '' AND lower({text}) <> 'null' AND NOT {special}"
    return f"""CASE WHEN {plain} THEN {text} ELSE '"' || {escaped} || '"' END"""


_NOT_IN_ARROW = frozenset({"UHUGEINT", "BIGNUM", "BIT", "TIME WITH TIME ZONE"})
"""What DuckDB hands to Arrow as something else: cut off, without zone, or in its own bytes."""


def arrow_sql_type(duckdb_type: Any) -> str:
    """Return the SQL of a `DuckDBPyType`, text in the place of what Arrow would not hold.

    ENUM is text too, as for PostgreSQL clients: pyarrow streams no dictionaries.
    """
    written, kind = str(duckdb_type), duckdb_type.id
    if written in _NOT_IN_ARROW or kind == "enum":
        return "VARCHAR"
    if "ENUM" not in written and not any(name in written for name in _NOT_IN_ARROW):
        return written
    if kind not in ("list", "array", "struct", "map", "union"):
        return written
    children = {name: child for name, child in duckdb_type.children if name != "size"}
    inner = {name: arrow_sql_type(child) for name, child in children.items()}
    if kind == "list":
        return f"{inner['child']}[]"
    if kind == "array":
        return f"{inner['child']}[{dict(duckdb_type.children)['size']}]"
    if kind == "map":
        return f"MAP({inner['key']}, {inner['value']})"
    fields = ", ".join(f"{quote(name)} {child}" for name, child in inner.items())
    return f"{kind.upper()}({fields})"
