"""The catalog of one session: filled when it is asked, kept until something may have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from quackllm.optimizer.sql import quote
from quackllm.server.pgwire import calls, types
from quackllm.server.pgwire.catalog.empty import EMPTY, EMPTY_INFORMATION
from quackllm.server.pgwire.catalog.fixed import LETTERS, fixed_tables, type_rows, with_letters
from quackllm.server.pgwire.catalog.functions import macro_statements
from quackllm.server.pgwire.catalog.tables import GATHER, INFORMATION, TABLES
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

_TYPE_NAMES = {"oid": "UINTEGER", "text": "VARCHAR", "text[]": "VARCHAR[]", "oid[]": "UINTEGER[]"}


def _spaced(value: str) -> str:
    return f"array_to_string({value}, ' ')"


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


class Catalog:
    """Answers queries about pg_catalog and information_schema; no model is ever called."""

    def __init__(
        self,
        worker: Worker,
        variables: Variables,
        registry: Registry,
        activity: Activity,
        databases: Sequence[str],
    ) -> None:
        """databases: names of all that are served."""
        self._worker = worker
        self._variables = variables
        self._registry = registry
        self._activity = activity
        self._databases = databases
        self._private: duckdb.DuckDBPyConnection | None = None
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
        private = self._filled()
        session = private.execute("SELECT schema FROM raw_session").fetchall()[0][0]
        values: dict[str, str | int] = {
            "user": self._activity.user,
            "database": self._activity.database,
            "schema": session,
            "version": f"PostgreSQL {SERVER_VERSION} (quackllm, DuckDB {duckdb.__version__})",
            "pid": self._activity.pid,
        }
        sql = Translator(values, self._setting)(parsed.sql)
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
        self._registry.changes += 1

    def close(self) -> None:
        """Release the private database."""
        if self._private is not None:
            self._private.close()
            self._private = None

    def _setting(self, name: str) -> str | None:
        known = self._variables.name_of(name)
        return None if known is None else self._variables.get(known)

    def _filled(self) -> duckdb.DuckDBPyConnection:
        if self._private is None:
            self._private = self._created()
        self._fill_activity(self._private)
        if self._seen != self._registry.changes:
            self._gather(self._private)
            self._derive(self._private)
        return self._private

    def _created(self) -> duckdb.DuckDBPyConnection:
        private = duckdb.connect(
            config={"threads": "1", "python_enable_replacements": "false", "memory_limit": "1GB"}
        )
        private.execute("CREATE SCHEMA catalog; CREATE SCHEMA information; USE memory.catalog")
        private.execute(LETTERS)
        private.create_function(
            "pg_cancel_backend", self._cancel, ["BIGINT"], "BOOLEAN", side_effects=True
        )
        private.create_function(
            "pg_terminate_backend", self._terminate, ["BIGINT"], "BOOLEAN", side_effects=True
        )
        for name, columns in EMPTY.items():
            private.execute(f"CREATE TABLE {name} ({_types(columns)})")
        for name, columns in EMPTY_INFORMATION.items():
            private.execute(f"CREATE TABLE information.{name} ({_types(columns)})")
        for name, sql in fixed_tables(self._databases, self._variables).items():
            private.execute(f"CREATE TABLE {name} AS {with_letters(name, sql)}")
        self._gather(private)
        self._fill_activity(private)
        statements = macro_statements()
        private.execute(
            next(one for one in statements if one.startswith("CREATE MACRO quote_ident"))
        )
        self._derive(private)
        for name, sql in INFORMATION.items():
            private.execute(f"CREATE VIEW information.{name} AS {sql}")
        for statement in statements:
            private.execute(statement.replace("CREATE MACRO", "CREATE OR REPLACE MACRO", 1))
        return private

    def _gather(self, private: duckdb.DuckDBPyConnection) -> None:
        self._seen = self._registry.changes
        found: dict[str, pa.Table] = {}
        for name, sql in GATHER.items():
            found[name] = calls.relation(self._worker.connection, sql).to_arrow_table()
        kinds = sorted(set(found["raw_columns"]["data_type"].to_pylist()))
        found["raw_types"] = type_rows(kinds, self._types_of(kinds))
        for name, table in found.items():
            private.register("__gathered", table)
            private.execute(f"CREATE OR REPLACE TABLE {name} AS FROM __gathered")
        private.unregister("__gathered")

    def _derive(self, private: duckdb.DuckDBPyConnection) -> None:
        """Make PostgreSQL's tables: as tables, since clients join many of them."""
        for name, sql in TABLES.items():
            private.execute(f"CREATE OR REPLACE TABLE {name} AS {with_letters(name, sql)}")

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

    def _fill_activity(self, private: duckdb.DuckDBPyConnection) -> None:
        """Make pg_stat_activity of this moment."""
        names = (
            "datid, datname, pid, usesysid, usename, application_name, client_addr, client_hostname, "
            "client_port, backend_start, xact_start, query_start, state_change, wait_event_type, "
            "wait_event, state, backend_xid, backend_xmin, query_id, query, backend_type, leader_pid"
        )
        private.execute(
            "CREATE OR REPLACE TABLE pg_stat_activity (datid UINTEGER, datname VARCHAR, pid INTEGER, "
            "usesysid UINTEGER, usename VARCHAR, application_name VARCHAR, client_addr VARCHAR, "
            "client_hostname VARCHAR, client_port INTEGER, backend_start TIMESTAMPTZ, "
            "xact_start TIMESTAMPTZ, query_start TIMESTAMPTZ, state_change TIMESTAMPTZ, "
            "wait_event_type VARCHAR, wait_event VARCHAR, state VARCHAR, backend_xid UINTEGER, "
            "backend_xmin UINTEGER, query_id BIGINT, query VARCHAR, backend_type VARCHAR, leader_pid INTEGER)"
        )
        for one in self._registry.sessions():
            private.execute(
                f"INSERT INTO pg_stat_activity ({names}) VALUES ($1, $2, $3, 10, $4, $5, $6, NULL, $7, "
                "to_timestamp($8), NULL, to_timestamp($9), to_timestamp($10), NULL, NULL, $11, NULL, "
                "NULL, NULL, $12, 'client backend', NULL)",
                [
                    16384 + list(self._databases).index(one.database),
                    one.database, one.pid, one.user, one.application, one.address, one.port,
                    one.started, one.query_started, one.changed,
                    "active" if one.is_active else "idle", one.query,
                ],
            )  # fmt: skip

    def _cancel(self, pid: int) -> bool:
        found = self._registry.find(pid)
        return found is not None and found.cancel()

    def _terminate(self, pid: int) -> bool:
        found = self._registry.find(pid)
        if found is None:
            return False
        found.cancel()
        found.terminate()
        return True


def _types(columns: str) -> str:
    parts = (column.split(" ", 1) for column in columns.split(", "))
    return ", ".join(f"{name} {_TYPE_NAMES.get(kind, kind)}" for name, kind in parts)


def _column(column: Column, kind: Any) -> Column:
    """Oids are unsigned here, and of a type of their own to the client."""
    if str(kind) == "UINTEGER":
        return Column(column.name, types.OID)
    if kind.id == "enum":
        return Column(column.name, types.CHAR)
    if str(kind) == "UINTEGER[]" and column.name not in _VECTORS:
        return Column(column.name, types.array_of(types.OID))
    if column.name in _VECTORS and column.type.form is types.Form.ARRAY:
        return Column(column.name, _VECTORS[column.name])
    return column
