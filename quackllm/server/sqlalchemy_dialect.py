"""SQLAlchemy over a database in this process: `create_engine("quackllm:///films.duckdb")`.

SQL is compiled as duckdb-engine does for DuckDB. What is different: connections are
cursors of one connection to each database, so that they share the answers, and tables are
reflected from DuckDB's own catalog. `llm_` settings stand in the query of the URL, all others
there are DuckDB's::

    quackllm:///films.duckdb?llm_base_url=http://localhost:8000/v1&threads=4

Servers of quackllm are reached with SQLAlchemy's own `postgresql+psycopg://`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from threading import Lock
from typing import Any

from duckdb_engine import ConnectionWrapper, Dialect
from sqlalchemy import pool, text, types
from sqlalchemy.engine import URL, Connection
from sqlalchemy.engine.reflection import ObjectKind, ObjectScope

import quackllm
from quackllm.engine import connection as ours
from quackllm.engine.settings import PREFIX

_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")

_COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default, comment
    FROM duckdb_columns() WHERE NOT internal AND {place} ORDER BY table_name, column_index
"""
_CONSTRAINTS = """
    SELECT table_name, constraint_type, constraint_name, constraint_column_names,
        referenced_table, referenced_column_names, constraint_text
    FROM duckdb_constraints() WHERE {place} ORDER BY table_name, constraint_index
"""
_COMMENTS = """
    SELECT table_name, comment FROM (
        SELECT database_name, schema_name, table_name, comment FROM duckdb_tables()
        UNION ALL
        SELECT database_name, schema_name, view_name, comment FROM duckdb_views()
    ) WHERE {place}
"""
_VIEWS = "SELECT view_name FROM duckdb_views() WHERE NOT internal AND {place} ORDER BY ALL"
_TABLES = "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND {place} ORDER BY ALL"

Reflected = list[tuple[tuple[str | None, str], Any]]


class QuackLLMDialect(Dialect):
    """The dialect behind `quackllm://`."""

    driver = "quackllm"
    supports_statement_cache = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._databases: dict[str, ours.Connection] = {}
        self._lock = Lock()

    # Connections

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """Keep connections of any database in a queue: cursors may work side by side."""
        return pool.QueuePool

    def connect(self, *args: Any, **options: Any) -> Any:
        """Open a cursor of the database's connection, and the connection at the first time."""
        config = {**options.get("config", {}), **options.get("url_config", {})}
        settings = {key: config.pop(key) for key in list(config) if key.startswith(PREFIX)}
        database = options.get("database") or ":memory:"
        with self._lock:
            if database not in self._databases:
                settings = {"progress": False, **_without_prefix(settings)}
                self._databases[database] = quackllm.connect(database, config=config, **settings)
            cursor: Any = self._databases[database].cursor()
            return ConnectionWrapper(cursor)

    def dispose_databases(self) -> None:
        """Close the connections to all databases; those of a pool must be closed before."""
        with self._lock:
            opened, self._databases = list(self._databases.values()), {}
        for connection in opened:
            connection.close()

    # Reflection: what SQLAlchemy asks of a list of tables, and from that, of one

    def get_multi_columns(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return the columns of tables and views."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for table, name, type_, nullable, default, comment in _rows(connection, _COLUMNS, schema):
            found[table].append(
                {
                    "name": name,
                    "type": self.type_of(type_),
                    "nullable": nullable,
                    "default": default,
                    "autoincrement": False,
                    "comment": comment,
                }
            )
        wanted = self._wanted(connection, schema, **asked)
        return [((schema, name), found[name]) for name in wanted]

    def get_multi_pk_constraint(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return the primary key of each table."""
        found = self._constraints(connection, schema, "PRIMARY KEY")
        empty: dict[str, Any] = {"name": None, "columns": []}
        keys: Reflected = []
        for name in self._wanted(connection, schema, **asked):
            of_table = next(iter(found.get(name, [])), empty)
            key = {"constrained_columns": of_table["columns"], "name": of_table["name"]}
            keys.append(((schema, name), key))
        return keys

    def get_multi_unique_constraints(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return the UNIQUE constraints of each table."""
        found = self._constraints(connection, schema, "UNIQUE")
        return [
            (
                (schema, name),
                [{"name": c["name"], "column_names": c["columns"]} for c in found.get(name, [])],
            )
            for name in self._wanted(connection, schema, **asked)
        ]

    def get_multi_check_constraints(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return the CHECK constraints of each table."""
        found = self._constraints(connection, schema, "CHECK")
        return [
            (
                (schema, name),
                [{"name": c["name"], "sqltext": c["text"]} for c in found.get(name, [])],
            )
            for name in self._wanted(connection, schema, **asked)
        ]

    def get_multi_foreign_keys(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return the foreign keys of each table."""
        found = self._constraints(connection, schema, "FOREIGN KEY")
        return [
            (
                (schema, name),
                [
                    {
                        "name": c["name"],
                        "constrained_columns": c["columns"],
                        "referred_schema": schema,
                        "referred_table": c["table"],
                        "referred_columns": c["referred"],
                        "options": {},
                    }
                    for c in found.get(name, [])
                ],
            )
            for name in self._wanted(connection, schema, **asked)
        ]

    def get_multi_indexes(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return no index: they are DuckDB's own business."""
        return [((schema, name), []) for name in self._wanted(connection, schema, **asked)]

    def get_indexes(self, *_: Any, **__: Any) -> list[Any]:
        """Return no index."""
        return []

    def get_multi_table_comment(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return the comment on each table and view."""
        found = dict(tuple(row) for row in _rows(connection, _COMMENTS, schema))
        wanted = self._wanted(connection, schema, **asked)
        return [((schema, name), {"text": found.get(name)}) for name in wanted]

    def get_multi_table_options(  # type: ignore[override]
        self, connection: Connection, *, schema: str | None = None, **asked: Any
    ) -> Reflected:
        """Return no options: tables of DuckDB have none."""
        return [((schema, name), {}) for name in self._wanted(connection, schema, **asked)]

    def type_of(self, written: str) -> types.TypeEngine[Any]:
        """Return SQLAlchemy's type for one of DuckDB; a NullType where it has none."""
        if written.endswith("]"):
            return types.ARRAY(self.type_of(written[: written.rindex("[")]))
        decimal = _DECIMAL.fullmatch(written)
        if decimal:
            return types.Numeric(int(decimal[1]), int(decimal[2]))
        if written.startswith("ENUM("):
            return types.String()
        known = self.ischema_names.get(written.lower())
        return types.NullType() if known is None else types.to_instance(known)

    def _wanted(
        self,
        connection: Connection,
        schema: str | None,
        *,
        filter_names: Collection[str] | None = None,
        kind: ObjectKind = ObjectKind.TABLE,
        scope: ObjectScope = ObjectScope.DEFAULT,
        **_: Any,
    ) -> Iterator[str]:
        """Name the tables and views that a question is about."""
        for each, query in ((ObjectKind.TABLE, _TABLES), (ObjectKind.VIEW, _VIEWS)):
            if each in kind:
                for (name,) in _rows(connection, query, schema):
                    if filter_names is None or name in filter_names:
                        yield name

    def _constraints(
        self, connection: Connection, schema: str | None, kind: str
    ) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in _rows(connection, _CONSTRAINTS, schema):
            table, type_, name, columns, referred_table, referred, said = row
            if type_ == kind:
                found[table].append(
                    {
                        "name": name,
                        "columns": columns,
                        "table": referred_table,
                        "referred": referred,
                        "text": said.removeprefix("CHECK"),
                    }
                )
        return found


def _without_prefix(settings: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(PREFIX): value for key, value in settings.items()}


def _rows(connection: Connection, query: str, schema: str | None) -> list[Any]:
    """Read the catalog for a schema, written as `schema` or `database.schema`."""
    database, _, name = (schema or "").rpartition(".")
    place = "schema_name = coalesce(:schema, current_schema()) AND database_name = " + (
        "coalesce(:database, current_database())"
    )
    asked = {"schema": name.strip('"') or None, "database": database.strip('"') or None}
    return list(connection.execute(text(query.format(place=place)), asked).fetchall())
