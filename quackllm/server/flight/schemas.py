"""Arrow schemas: of columns that DuckDB has described, and those that Flight SQL prescribes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from quackllm import Connection
from quackllm.optimizer.sql import quote
from quackllm.server.pgwire import calls

EMPTY = pa.schema([])


def schema_of(connection: Connection, columns: Sequence[tuple[str, str]]) -> pa.Schema:
    """Return the schema of columns, each a name and DuckDB's type; nothing is run for it."""
    if not columns:
        return EMPTY
    types = arrow_types(connection, [written for _, written in columns])
    return pa.schema([pa.field(name, kind) for (name, _), kind in zip(columns, types, strict=True)])


def arrow_types(connection: Connection, written: Sequence[str]) -> list[Any]:
    """Return the Arrow types of DuckDB's types, as they are written in SQL."""
    distinct = list(dict.fromkeys(written))
    items = ", ".join(f"CAST(NULL AS {kind}) AS {quote(str(i))}" for i, kind in enumerate(distinct))
    found = calls.relation(connection, f"SELECT {items} LIMIT 0").to_arrow_table().schema.types
    by_name = dict(zip(distinct, found, strict=True))
    return [by_name[kind] for kind in written]


def _schema(*fields: tuple[str, Any, bool]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable) for name, kind, nullable in fields])


_TEXT = pa.string()

CATALOGS = _schema(("catalog_name", _TEXT, False))
DB_SCHEMAS = _schema(("catalog_name", _TEXT, True), ("db_schema_name", _TEXT, False))
TABLE_TYPES = _schema(("table_type", _TEXT, False))
TABLES = _schema(
    ("catalog_name", _TEXT, True),
    ("db_schema_name", _TEXT, True),
    ("table_name", _TEXT, False),
    ("table_type", _TEXT, False),
)
TABLES_WITH_SCHEMA = TABLES.append(pa.field("table_schema", pa.binary(), nullable=False))
PRIMARY_KEYS = _schema(
    ("catalog_name", _TEXT, True),
    ("db_schema_name", _TEXT, True),
    ("table_name", _TEXT, False),
    ("column_name", _TEXT, False),
    ("key_name", _TEXT, True),
    ("key_sequence", pa.int32(), False),
)
FOREIGN_KEYS = _schema(
    ("pk_catalog_name", _TEXT, True),
    ("pk_db_schema_name", _TEXT, True),
    ("pk_table_name", _TEXT, False),
    ("pk_column_name", _TEXT, False),
    ("fk_catalog_name", _TEXT, True),
    ("fk_db_schema_name", _TEXT, True),
    ("fk_table_name", _TEXT, False),
    ("fk_column_name", _TEXT, False),
    ("key_sequence", pa.int32(), False),
    ("fk_key_name", _TEXT, True),
    ("pk_key_name", _TEXT, True),
    ("update_rule", pa.uint8(), False),
    ("delete_rule", pa.uint8(), False),
)
_VALUE = pa.dense_union(
    [
        pa.field("string_value", _TEXT),
        pa.field("bool_value", pa.bool_()),
        pa.field("bigint_value", pa.int64()),
        pa.field("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(pa.field("string_data", _TEXT))),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
    ]
)
SQL_INFO = _schema(("info_name", pa.uint32(), False), ("value", _VALUE, False))
