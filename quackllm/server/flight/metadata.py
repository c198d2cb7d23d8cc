"""What Flight SQL clients ask of a database: catalogs, schemas, tables, keys, abilities.

Answered from DuckDB's own tables of names; no model is ever called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import duckdb
import pyarrow as pa

from quackllm import Connection
from quackllm.server.flight import schemas
from quackllm.server.pgwire import calls
from quackllm.server.pgwire.types import arrow_sql_type

_TABLE_KINDS = ("TABLE", "VIEW", "SYSTEM VIEW", "LOCAL TEMPORARY")


def schema(name: str, command: Any) -> pa.Schema:
    """Return the schema of what a command's answer will have; KeyError for no such command."""
    if name == "CommandGetTables" and command.include_schema:
        return schemas.TABLES_WITH_SCHEMA
    return _COMMANDS[name][0]


def knows(name: str) -> bool:
    """Whether a command is one of these."""
    return name in _COMMANDS


def answer(name: str, command: Any, connection: Connection, read_only: bool) -> pa.Table:
    """Answer a command, in the session's thread."""
    if name == "CommandGetSqlInfo":
        return _sql_info(command.info, read_only)
    return _COMMANDS[name][1](connection, command)


def _select(connection: Connection, sql: str, values: Mapping[str, Any], wanted: Any) -> pa.Table:
    """Run a query with named values, in the session's own transaction."""
    return calls.relation(connection, sql, dict(values) or None).to_arrow_table().cast(wanted)


def _given(command: Any, *names: str) -> dict[str, str | None]:
    """Return fields of a command, None for those that were not set."""
    return {name: getattr(command, name) if command.HasField(name) else None for name in names}


def _catalogs(connection: Connection, command: Any) -> pa.Table:
    sql = (
        "SELECT database_name AS catalog_name FROM duckdb_databases() WHERE NOT internal ORDER BY 1"
    )
    return _select(connection, sql, {}, schemas.CATALOGS)


_SCHEMAS_SQL = """
SELECT database_name AS catalog_name, schema_name AS db_schema_name FROM duckdb_schemas()
WHERE (NOT internal OR schema_name = 'main') AND database_name <> 'system'
    AND ($catalog IS NULL OR database_name = $catalog)
    AND ($db_schema_filter_pattern IS NULL OR schema_name LIKE $db_schema_filter_pattern)
ORDER BY 1, 2
"""


def _db_schemas(connection: Connection, command: Any) -> pa.Table:
    values = _given(command, "catalog", "db_schema_filter_pattern")
    return _select(connection, _SCHEMAS_SQL, values, schemas.DB_SCHEMAS)


_TABLES_SQL = """
WITH found AS (
    SELECT database_name, schema_name, table_name,
        CASE WHEN temporary THEN 'LOCAL TEMPORARY' ELSE 'TABLE' END AS table_type, table_oid AS oid
    FROM duckdb_tables() WHERE NOT internal
    UNION ALL
    SELECT database_name, schema_name, view_name, 'VIEW', view_oid
    FROM duckdb_views() WHERE NOT internal
)
SELECT database_name AS catalog_name, schema_name AS db_schema_name, table_name, table_type
FROM found
WHERE ($catalog IS NULL OR database_name = $catalog)
    AND ($db_schema_filter_pattern IS NULL OR schema_name LIKE $db_schema_filter_pattern)
    AND ($table_name_filter_pattern IS NULL OR table_name LIKE $table_name_filter_pattern)
    AND (len($kinds) = 0 OR list_contains($kinds, table_type))
ORDER BY 1, 2, 3, 4
"""

_COLUMNS_SQL = """
SELECT database_name, schema_name, table_name, list(column_name ORDER BY column_index) AS names,
    list(data_type ORDER BY column_index) AS types,
    list(is_nullable ORDER BY column_index) AS nullable
FROM duckdb_columns() WHERE NOT internal GROUP BY ALL
"""


def _tables(connection: Connection, command: Any) -> pa.Table:
    given = _given(command, "catalog", "db_schema_filter_pattern", "table_name_filter_pattern")
    values = {**given, "kinds": list(command.table_types)}
    found = _select(connection, _TABLES_SQL, values, schemas.TABLES)
    if not command.include_schema:
        return found
    described = _table_schemas(connection)
    names = zip(*(found.column(i).to_pylist() for i in range(3)), strict=True)
    serialized = [described.get(name, schemas.EMPTY).serialize().to_pybytes() for name in names]
    column = pa.array(serialized, pa.binary())
    return found.append_column(schemas.TABLES_WITH_SCHEMA.field("table_schema"), column)


def _table_schemas(connection: Connection) -> dict[tuple[str, str, str], pa.Schema]:
    """Return the schema of every table, by catalog, schema and name."""
    rows = calls.relation(connection, _COLUMNS_SQL).fetchall()
    arrow = _sent_as(connection, sorted({kind for row in rows for kind in row[4]}))
    return {
        (row[0], row[1], row[2]): pa.schema(
            [
                pa.field(name, arrow[kind], nullable)
                for name, kind, nullable in zip(row[3], row[4], row[5], strict=True)
            ]
        )
        for row in rows
    }


def _sent_as(connection: Connection, written: Sequence[str]) -> dict[str, Any]:
    """Return the Arrow types by DuckDB's; text for one that cannot be named here."""
    found: dict[str, Any] = {}
    for kind in written:
        try:
            [parsed] = calls.relation(connection, f"SELECT CAST(NULL AS {kind})").types
            found[kind] = schemas.arrow_types(connection, [arrow_sql_type(parsed)])[0]
        except duckdb.Error:
            found[kind] = pa.string()
    return found


def _table_types(connection: Connection, command: Any) -> pa.Table:
    return pa.table([sorted(_TABLE_KINDS)], schema=schemas.TABLE_TYPES)


_PRIMARY_SQL = """
SELECT database_name AS catalog_name, schema_name AS db_schema_name, table_name,
    unnest(constraint_column_names) AS column_name, constraint_name AS key_name,
    CAST(generate_subscripts(constraint_column_names, 1) AS INTEGER) AS key_sequence
FROM duckdb_constraints()
WHERE constraint_type = 'PRIMARY KEY' AND table_name = $table
    AND ($catalog IS NULL OR database_name = $catalog)
    AND ($db_schema IS NULL OR schema_name = $db_schema)
ORDER BY 1, 2, 3, 5, 6
"""


def _primary_keys(connection: Connection, command: Any) -> pa.Table:
    values = {**_given(command, "catalog", "db_schema"), "table": command.table}
    return _select(connection, _PRIMARY_SQL, values, schemas.PRIMARY_KEYS)


_FOREIGN_SQL = """
WITH keys AS (
    SELECT f.database_name, f.schema_name, f.table_name, f.constraint_name,
        f.constraint_column_names, f.referenced_table, f.referenced_column_names,
        (SELECT any_value(p.constraint_name) FROM duckdb_constraints() p
         WHERE p.database_name = f.database_name AND p.schema_name = f.schema_name
            AND p.table_name = f.referenced_table
            AND p.constraint_type IN ('PRIMARY KEY', 'UNIQUE')
            AND p.constraint_column_names = f.referenced_column_names) AS pk_key_name
    FROM duckdb_constraints() f WHERE f.constraint_type = 'FOREIGN KEY'
)
SELECT database_name AS pk_catalog_name, schema_name AS pk_db_schema_name,
    referenced_table AS pk_table_name, unnest(referenced_column_names) AS pk_column_name,
    database_name AS fk_catalog_name, schema_name AS fk_db_schema_name,
    table_name AS fk_table_name, unnest(constraint_column_names) AS fk_column_name,
    CAST(generate_subscripts(constraint_column_names, 1) AS INTEGER) AS key_sequence,
    constraint_name AS fk_key_name, pk_key_name, 3::UTINYINT AS update_rule,
    3::UTINYINT AS delete_rule
FROM keys
WHERE ($pk_catalog IS NULL OR database_name = $pk_catalog)
    AND ($pk_db_schema IS NULL OR schema_name = $pk_db_schema)
    AND ($pk_table IS NULL OR referenced_table = $pk_table)
    AND ($fk_catalog IS NULL OR database_name = $fk_catalog)
    AND ($fk_db_schema IS NULL OR schema_name = $fk_db_schema)
    AND ($fk_table IS NULL OR table_name = $fk_table)
ORDER BY {order}
"""
"""DuckDB's foreign keys have no actions: both rules are NO ACTION."""

_BY_FOREIGN, _BY_PRIMARY = "5, 6, 7, 10, 9", "1, 2, 3, 11, 9"
_SIDES = ("pk_catalog", "pk_db_schema", "pk_table", "fk_catalog", "fk_db_schema", "fk_table")


def _foreign_keys(connection: Connection, values: Mapping[str, Any], order: str) -> pa.Table:
    asked = {**dict.fromkeys(_SIDES), **values}
    return _select(connection, _FOREIGN_SQL.format(order=order), asked, schemas.FOREIGN_KEYS)


def _one_side(command: Any, side: str) -> dict[str, Any]:
    given = {**_given(command, "catalog", "db_schema"), "table": command.table}
    return {f"{side}_{name}": value for name, value in given.items()}


def _exported_keys(connection: Connection, command: Any) -> pa.Table:
    return _foreign_keys(connection, _one_side(command, "pk"), _BY_FOREIGN)


def _imported_keys(connection: Connection, command: Any) -> pa.Table:
    return _foreign_keys(connection, _one_side(command, "fk"), _BY_PRIMARY)


def _cross_reference(connection: Connection, command: Any) -> pa.Table:
    return _foreign_keys(connection, _given(command, *_SIDES), _BY_PRIMARY)


def _abilities(read_only: bool) -> dict[int, Any]:
    """Return what GetSqlInfo tells, by the numbers of the interface's enumeration SqlInfo."""
    return {
        0: "quackllm",
        1: version("quackllm"),
        2: pa.__version__,
        3: read_only,
        4: True,  # SQL
        5: False,  # Substrait
        8: 1,  # transactions, without savepoints
        9: True,  # cancel
        10: True,  # ingestion
        11: True,  # ingestion in transactions
        500: True,  # DDL of catalogs, schemas, tables
        501: True,
        502: True,
        503: 1,  # identifiers are compared without case
        504: '"',
        505: 1,
        506: True,  # all tables are selectable
        507: 3,  # NULLs are sorted last
    }


_MEMBERS = {str: 0, bool: 1, int: 3}


def _sql_info(asked: Sequence[int], read_only: bool) -> pa.Table:
    known = _abilities(read_only)
    chosen = {number: known[number] for number in (asked or known) if number in known}
    kinds = [_MEMBERS[type(value)] for value in chosen.values()]
    children: list[list[Any]] = [[] for _ in range(6)]
    offsets = []
    for kind, value in zip(kinds, chosen.values(), strict=True):
        offsets.append(len(children[kind]))
        children[kind].append(value)
    union = schemas.SQL_INFO.field("value").type
    arrays = [pa.array(c, union.field(i).type) for i, c in enumerate(children)]
    values = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(offsets, pa.int32()),
        arrays,
        [union.field(i).name for i in range(6)],
    )
    return pa.table([pa.array(list(chosen), pa.uint32()), values], schema=schemas.SQL_INFO)


_COMMANDS: Mapping[str, tuple[pa.Schema, Callable[[Connection, Any], pa.Table]]] = {
    "CommandGetSqlInfo": (schemas.SQL_INFO, lambda _, command: _sql_info(command.info, False)),
    "CommandGetCatalogs": (schemas.CATALOGS, _catalogs),
    "CommandGetDbSchemas": (schemas.DB_SCHEMAS, _db_schemas),
    "CommandGetTables": (schemas.TABLES, _tables),
    "CommandGetTableTypes": (schemas.TABLE_TYPES, _table_types),
    "CommandGetPrimaryKeys": (schemas.PRIMARY_KEYS, _primary_keys),
    "CommandGetExportedKeys": (schemas.FOREIGN_KEYS, _exported_keys),
    "CommandGetImportedKeys": (schemas.FOREIGN_KEYS, _imported_keys),
    "CommandGetCrossReference": (schemas.FOREIGN_KEYS, _cross_reference),
}
