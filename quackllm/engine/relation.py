"""A relation that may hold LLM calls: composed by DuckDB, run by the engine, once."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import duckdb

from quackllm.engine.session import StoredResult
from quackllm.engine.statement import holds_calls
from quackllm.engine.variables import native, registered
from quackllm.optimizer.naive import FUNCTION

if TYPE_CHECKING:
    from quackllm.engine.connection import Connection

RUNNING = frozenset(
    [
        "__arrow_c_stream__",
        "__len__",
        "__repr__",
        "__str__",
        "arrow",
        "create",
        "describe",
        "df",
        "execute",
        "fetch_arrow_reader",
        "fetch_arrow_table",
        "fetch_df_chunk",
        "fetch_record_batch",
        "fetchall",
        "fetchdf",
        "fetchmany",
        "fetchnumpy",
        "fetchone",
        "insert_into",
        "pl",
        "record_batch",
        "show",
        "shape",
        "tf",
        "to_arrow_reader",
        "to_arrow_table",
        "to_csv",
        "to_df",
        "to_parquet",
        "to_table",
        "torch",
        "write_csv",
        "write_parquet",
    ]
)
"""Methods of a DuckDB relation that run it."""


class Relation:
    """What `sql()` returns: used like a `duckdb.DuckDBPyRelation`.

    DuckDB composes and binds it; nothing is asked of a model before rows are fetched.
    The rows are then kept as long as the relation lives, so that looking twice does
    not ask twice. LLM functions may stand in the text of filter, project, ...
    """

    def __init__(
        self,
        connection: Connection,
        relation: duckdb.DuckDBPyRelation,
        variables: Mapping[str, Any] | None = None,
        stored: StoredResult | None = None,
    ) -> None:
        """Wrap a relation. `variables` are the Python variables that it reads."""
        self._connection = connection
        self._relation = relation
        self._variables = variables or {}
        self._kept: duckdb.DuckDBPyRelation | None = None
        if stored is not None:
            self._keep(stored)

    def quackllm_native(self) -> duckdb.DuckDBPyRelation:
        """Return DuckDB's relation, its calls by the scalar function."""
        return self._relation

    def _run(self) -> duckdb.DuckDBPyRelation:
        """Return a relation over finished rows."""
        if self._kept is None:
            sql = self._relation.sql_query()
            if FUNCTION not in sql:
                return self._relation
            connection = self._connection
            with registered(connection._raw, self._variables):
                stored = connection._session.query(sql, {}, connection._settings)
            self._keep(stored)
        assert self._kept is not None
        return self._kept

    def _keep(self, stored: StoredResult) -> None:
        raw = self._connection._raw
        self._kept = raw.sql(stored.sql)
        # Dropped before the next statement: a reader may still be open on the rows.
        weakref.finalize(self, self._connection._garbage.append, stored.table).atexit = False

    def _argument(self, value: Any, method: str) -> Any:
        session = self._connection._session
        if isinstance(value, str) and holds_calls(value, self._connection._engine.functions):
            if method in ("project", "select", "aggregate"):
                return session.naive_items(value)
            return session.naive_expression(value)
        return native(value)

    def explain(self, type: Any = "standard") -> str:
        """Return the plan; of calls, how they will be made."""
        sql = self._relation.sql_query()
        if FUNCTION not in sql:
            return str(self._relation.explain(type))
        connection = self._connection
        with registered(connection._raw, self._variables):
            return connection._session.explain(sql, {}, connection._settings, analyze=False)[1]

    def __getattr__(self, name: str) -> Any:
        if name in RUNNING:
            return self._runner(name)
        attribute = getattr(self._relation, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def delegate(*args: Any, **options: Any) -> Any:
            given = [self._argument(argument, name) for argument in args]
            named = {key: self._argument(value, name) for key, value in options.items()}
            result = attribute(*given, **named)
            if not isinstance(result, duckdb.DuckDBPyRelation):
                return result
            inherited = dict(self._variables)
            for argument in [*args, *options.values()]:
                if isinstance(argument, Relation):
                    inherited.update(argument._variables)
            return Relation(self._connection, result, inherited)

        return delegate

    def _runner(self, name: str) -> Any:
        finished = getattr(self._run(), name)
        if not callable(finished):
            return finished

        @functools.wraps(finished)
        def fetch(*args: Any, **options: Any) -> Any:
            kept = self._run()  # and self with it, while this runs
            return getattr(kept, name)(*args, **options)

        return fetch

    def __getitem__(self, name: str) -> Any:
        return Relation(self._connection, self._relation[name], self._variables)

    def __contains__(self, name: object) -> bool:
        return name in self._relation

    def __len__(self) -> int:
        return len(self._run())

    def __repr__(self) -> str:
        return repr(self._run())

    def __str__(self) -> str:
        return str(self._run())

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self._run().to_arrow_table().__arrow_c_stream__(requested_schema)
