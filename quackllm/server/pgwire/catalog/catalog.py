"""The catalog of one session: filled when it is asked, kept until something may have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from quackllm.optimizer.sql import quote
from quackllm.server.pgwire import calls, types
from quackllm.server.pgwire.catalog.definitions import MOMENTARY, RAW_TYPES, definitions
from quackllm.server.pgwire.catalog.fixed import LETTERS, roles_table, settings_table, type_rows
from quackllm.server.pgwire.catalog.sessions import activity_rows
from quackllm.server.pgwire.catalog.tables import GATHER
from quackllm.server.pgwire.catalog.translate import Translator, is_about_catalog
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.results import Rows, columns_of, formats_for
from quackllm.server.pgwire.types import Column, wire_type
from quackllm.server.pgwire.variables import SERVER_VERSION

if TYPE_CHECKING:
    from quackllm.server.pgwire.activity import Activity, Registry
    from quackllm.server.pgwire.statements import Parsed
    from quackllm.server.pgwire.variables import Variables
    from quackllm.server.pgwire.worker import Worker


def _spaced(value: str) -> str:
    # DuckDB 1.x takes a bare `#1` given to a macro, as array_to_string is one, for a named argument
    return f"array_to_string(CAST({value} AS VARCHAR[]), ' ')"


_INT2VECTOR = types.WireType(22, "int2vector", -1, types.Form.TEXT, _spaced, _spaced)
_OIDVECTOR = types.WireType(30, "oidvector", -1, types.Form.TEXT, _spaced, _spaced)
_VECTORS = {
    "indkey": _INT2VECTOR,
    "indoption": _INT2VECTOR,
    "indclass": _OIDVECTOR,
    "indcollation": _OIDVECTOR,
    "proargtypes": _OIDVECTOR,
}
"""Columns that PostgreSQL writes as numbers with blanks between, not as arrays."""


class CatalogDatabase:
    """The DuckDB in which the catalogs of a server's sessions stand: each in its temporary schema.

    cursor: a connection to it for a session.
    """

    def __init__(self, registry: Registry, databases: Sequence[str]) -> None:
        """databases: names of all that are served."""
        self.registry = registry
        self.databases = tuple(databases)
        self.definitions = definitions(databases)
        self._connection = duckdb.connect(
            config={"threads": "1", "python_enable_replacements": "false", "memory_limit": "1GB"}
        )
        self._connection.execute(LETTERS)
        for name, function in (
            ("pg_cancel_backend", self._cancel),
            ("pg_terminate_backend", self._terminate),
        ):
            self._connection.create_function(
                name, function, ["BIGINT", "BIGINT"], "BOOLEAN", side_effects=True
            )

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of a session's own."""
        return self._connection.cursor()

    def close(self) -> None:
        """Release it; cursors that are still open keep working."""
        self._connection.close()

    # The translator adds the secret of the session that asks, which no other session knows.

    def _cancel(self, pid: int, secret: int) -> bool:
        found = self.registry.managed(pid, secret)
        return found is not None and found.cancel()

    def _terminate(self, pid: int, secret: int) -> bool:
        found = self.registry.managed(pid, secret)
        if found is None:
            return False
        found.cancel()
        found.terminate()
        return True


class Catalog:
    """Answers queries about pg_catalog and information_schema; no model is ever called."""

    def __init__(
        self, worker: Worker, variables: Variables, home: CatalogDatabase, activity: Activity
    ) -> None:
        self._worker = worker
        self._variables = variables
        self._home = home
        self._activity = activity
        self._private: duckdb.DuckDBPyConnection | None = None
        self._made: set[str] = set()
        self._seen = -1

    def is_about(self, parsed: Parsed) -> bool:
        """Whether a statement asks for what only the catalog has."""
        return is_about_catalog(parsed)

    def columns(self, parsed: Parsed) -> tuple[Column, ...]:
        """Return the columns of a query about the catalog. Raises as `rows` does."""
        return self._bound(parsed)[1]

    def rows(self, parsed: Parsed, formats: Sequence[int]) -> Rows:
        """Run a query about the catalog. Raises `WireError` and DuckDB's errors."""
        relation, columns = self._bound(parsed)
        rows = Rows(columns, relation, formats_for(formats, len(columns)))
        rows.hold()
        return rows

    def _bound(self, parsed: Parsed) -> tuple[Any, tuple[Column, ...]]:
        [(schema,)] = calls.relation(self._worker.connection, "SELECT current_schema()").fetchall()
        values: dict[str, str | int] = {
            "user": self._activity.user,
            "database": self._activity.database,
            "schema": schema,
            "version": f"PostgreSQL {SERVER_VERSION} (quackllm, DuckDB {duckdb.__version__})",
            "pid": self._activity.pid,
            "secret": self._activity.secret,
        }
        sql = Translator(values, self._setting)(parsed.sql)
        private = self._filled(sql)
        try:
            relation = private.sql(sql)
        except duckdb.Error as error:
            raise WireError(
                SqlState.FEATURE_NOT_SUPPORTED, f"the catalog cannot answer this query: {error}"
            ) from error
        if relation is None:
            raise WireError(SqlState.FEATURE_NOT_SUPPORTED, "the catalog can only be read")
        described = zip(columns_of(relation), relation.types, strict=True)
        return relation, tuple(_column(column, kind) for column, kind in described)

    def forget(self) -> None:
        """Note, for all sessions, that a database may have changed."""
        self._home.registry.changes += 1

    def close(self) -> None:
        """Release the session's part of the database."""
        if self._private is not None:
            self._private.close()
            self._private = None

    def _setting(self, name: str) -> str | None:
        known = self._variables.name_of(name)
        return None if known is None else self._variables.get(known)

    def _filled(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Make what a query needs and is not there, or may have changed since."""
        if self._private is None:
            self._private = self._home.cursor()
        changes = self._home.registry.changes
        if self._seen != changes:
            self._seen = changes
            self._made -= self._home.definitions.changing
        for name in self._home.definitions.needed(sql):
            if name not in self._made or name in MOMENTARY:
                self._make(self._private, name)
                self._made.add(name)
        return self._private

    def _make(self, private: duckdb.DuckDBPyConnection, name: str) -> None:
        statement = self._home.definitions.statements[name]
        if statement is not None:
            private.execute(statement)
        elif name in GATHER:
            relation = calls.relation(self._worker.connection, GATHER[name])
            _store(private, name, relation.to_arrow_table())
        elif name == RAW_TYPES:
            found = private.execute("SELECT DISTINCT data_type FROM raw_columns ORDER BY ALL")
            kinds = [kind for (kind,) in found.fetchall()]
            _store(private, name, type_rows(kinds, self._types_of(kinds)))
        elif name == "pg_stat_activity":
            registry = self._home.registry
            rows = activity_rows(registry.sessions(), self._home.databases, self._activity)
            _store(private, name, rows)
        elif name == "pg_roles":
            user = self._variables.get("session_authorization")
            private.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {roles_table(user)}")
        elif name == "pg_settings":
            private.execute(
                f"CREATE OR REPLACE TEMP TABLE {name} AS {settings_table(self._variables)}"
            )

    def _types_of(self, kinds: Sequence[str]) -> list[types.WireType]:
        """Return the wire type of each of DuckDB's types, as they are written."""
        if not kinds:
            return []
        items = ", ".join(
            f"CAST(NULL AS {kind}) AS {quote(str(i))}" for i, kind in enumerate(kinds)
        )
        try:
            relation = calls.relation(self._worker.connection, f"SELECT {items}")
        except duckdb.Error:
            return [types.TEXT for _ in kinds]
        return [wire_type(kind) for kind in relation.types]


def _store(private: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    private.register("__gathered", rows)
    private.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM __gathered")
    private.unregister("__gathered")


def _column(column: Column, kind: Any) -> Column:
    """Oids are unsigned here, and of a type of their own to the client."""
    if str(kind) == "UINTEGER":
        return replace(column, type=types.OID)
    if kind.id == "enum":
        return replace(column, type=types.CHAR)
    if str(kind) == "UINTEGER[]" and column.name not in _VECTORS:
        return replace(column, type=types.array_of(types.OID))
    if column.name in _VECTORS and column.type.form is types.Form.ARRAY:
        return replace(column, type=_VECTORS[column.name])
    return column
