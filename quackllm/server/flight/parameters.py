"""Parameters of Flight SQL: marks in the text, and Arrow values as DuckDB's SQL.

A value stands in the statement as a literal, as on the PostgreSQL side, so that the planner
sees prompts and labels as if they had been typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
from sqlglot.tokenizer_core import TokenType

from quackllm.optimizer.sql import literal
from quackllm.server.pgwire import statements
from quackllm.server.pgwire.errors import SqlState, WireError, nul_in


def numbered(sql: str) -> str:
    """Write `?` as `$1`, `$2` and so on. Raises `WireError` where both are used."""
    tokens = [token for one in statements.parse(sql) for token in one.statement.tokens]
    # A cast behind it is one token with the mark: `?::`.
    marks = [t.start for t in tokens if sql[t.start] == "?" and not _digit_at(sql, t.start + 1)]
    if not marks:
        return sql
    kinds = (TokenType.PLACEHOLDER, TokenType.PARAMETER)
    if any(t.token_type in kinds and sql[t.start] == "$" for t in tokens):
        raise WireError(SqlState.SYNTAX, "parameters are either ? or $1, not both")
    parts: list[str] = []
    at = 0
    for number, start in enumerate(marks, 1):
        parts.extend((sql[at:start], f"${number}"))
        at = start + 1
    return "".join([*parts, sql[at:]])


def _digit_at(sql: str, at: int) -> bool:
    return sql[at : at + 1].isdigit()


def literal_rows(batch: pa.RecordBatch) -> Iterator[list[str]]:
    """Yield the values of each row as SQL. Raises `WireError` for types that have none."""
    columns = [_readable(column) for column in batch.columns]
    for row in range(batch.num_rows):
        yield [value_literal(column[row]) for column in columns]


def value_literal(scalar: pa.Scalar) -> str:
    """Write an Arrow value as DuckDB's SQL. Raises `WireError`."""
    kind = duckdb_type(scalar.type)
    if not scalar.is_valid:
        return "NULL" if pa.types.is_null(scalar.type) else f"CAST(NULL AS {kind})"
    if isinstance(scalar, pa.ExtensionScalar):
        return _of_python(scalar.as_py(), kind)
    if isinstance(scalar, pa.DictionaryScalar):
        return value_literal(scalar.value)
    if isinstance(scalar, pa.MapScalar):
        pairs = list(scalar)
        keys = ", ".join(_python_literal(key, scalar.type.key_type) for key, _ in pairs)
        values = ", ".join(_python_literal(value, scalar.type.item_type) for _, value in pairs)
        return f"CAST(MAP([{keys}], [{values}]) AS {kind})"
    if isinstance(scalar, pa.ListScalar):
        return f"CAST([{', '.join(value_literal(one) for one in scalar.values)}] AS {kind})"
    if isinstance(scalar, pa.StructScalar):
        fields = (f"{literal(name)}: {value_literal(scalar[name])}" for name in scalar)
        return f"CAST({{{', '.join(fields)}}} AS {kind})"
    if pa.types.is_duration(scalar.type):
        return f"to_microseconds({scalar.cast(pa.duration('us')).value})"
    if pa.types.is_temporal(scalar.type) and not pa.types.is_interval(scalar.type):
        return f"CAST({literal(scalar.cast(pa.string()).as_py())} AS {kind})"
    return _of_python(scalar.as_py(), kind)


def _python_literal(value: Any, kind: pa.DataType) -> str:
    return value_literal(pa.scalar(value, kind))


def _readable(column: pa.Array) -> pa.Array:
    """Views of text and bytes as the plain types, which every kernel knows."""
    if pa.types.is_string_view(column.type):
        return column.cast(pa.string())
    return column.cast(pa.binary()) if pa.types.is_binary_view(column.type) else column


def _of_python(value: Any, kind: str) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        if "\0" in value:
            raise nul_in("a parameter")
        return literal(value) if kind == "VARCHAR" else f"CAST({literal(value)} AS {kind})"
    if isinstance(value, (bytes, memoryview)):
        return f"unhex('{bytes(value).hex()}')"
    if isinstance(value, int):
        return f"CAST({value} AS {kind})"
    if isinstance(value, float):
        return f"CAST('{value!r}' AS {kind})"
    if isinstance(value, (Decimal, date, datetime, time, UUID)):
        return f"CAST('{value}' AS {kind})"
    if isinstance(value, pa.MonthDayNano):
        micros = value.nanoseconds // 1000
        return f"(to_months({value.months}) + to_days({value.days}) + to_microseconds({micros}))"
    raise WireError(SqlState.FEATURE_NOT_SUPPORTED, f"parameters of type {kind} cannot be sent")


_SIMPLE: Mapping[pa.DataType, str] = {
    pa.null(): '"NULL"',
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.date64(): "DATE",
    pa.month_day_nano_interval(): "INTERVAL",
}

_FAMILIES: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_string, "VARCHAR"),
    (pa.types.is_large_string, "VARCHAR"),
    (pa.types.is_string_view, "VARCHAR"),
    (pa.types.is_binary, "BLOB"),
    (pa.types.is_large_binary, "BLOB"),
    (pa.types.is_binary_view, "BLOB"),
    (pa.types.is_fixed_size_binary, "BLOB"),
    (pa.types.is_time, "TIME"),
    (pa.types.is_duration, "INTERVAL"),
)


def duckdb_type(kind: pa.DataType) -> str:
    """Return DuckDB's name of an Arrow type. Raises `WireError` for one it has none for."""
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple
    for belongs, name in _FAMILIES:
        if belongs(kind):
            return name
    if pa.types.is_timestamp(kind):
        return _timestamp(kind)
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if isinstance(kind, pa.BaseExtensionType):
        return "UUID" if kind.extension_name == "arrow.uuid" else duckdb_type(kind.storage_type)
    return _nested(kind)


def _timestamp(kind: pa.DataType) -> str:
    if kind.tz is not None:
        return "TIMESTAMPTZ"
    return {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "ns": "TIMESTAMP_NS"}.get(
        kind.unit, "TIMESTAMP"
    )


def _nested(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return duckdb_type(kind.value_type)
    if pa.types.is_map(kind):
        return f"MAP({duckdb_type(kind.key_type)}, {duckdb_type(kind.item_type)})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        quoted = (f'"{f.name.replace(chr(34), chr(34) * 2)}" {duckdb_type(f.type)}' for f in kind)
        return f"STRUCT({', '.join(quoted)})"
    raise WireError(SqlState.FEATURE_NOT_SUPPORTED, f"parameters of type {kind} cannot be sent")
