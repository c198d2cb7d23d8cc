"""A relation that may hold LLM calls: composed by DuckDB, run by the engine, once."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

import duckdb

from quackllm.engine.results import StoredResult
from quackllm.engine.statement import OURS, holds_calls
from quackllm.engine.transactions import finish
from quackllm.engine.variables import native
from quackllm.engine.wording import in_our_words
from quackllm.optimizer.naive import FUNCTION

if TYPE_CHECKING:
    from quackllm.engine.connection import Connection

RUNNING = frozenset(
    {"arrow", "create", "df", "execute", "fetch_arrow_reader", "fetch_arrow_table"}
    | {"fetch_df_chunk", "fetch_record_batch", "fetchall", "fetchdf", "fetchmany", "fetchnumpy"}
    | {"fetchone", "insert_into", "iter_rows", "map", "materialize", "pl", "preview"}
    | {"record_batch", "shape", "show", "tf", "to_arrow_reader", "to_arrow_table", "to_csv"}
    | {"to_df", "to_dicts", "to_parquet", "to_table", "torch", "write_csv", "write_parquet"}
)
"""Methods and properties of a DuckDB relation that run it."""

IN_PLACE = frozenset({"execute", "materialize"})
"""Those that give the relation itself, its rows at hand."""


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
        *,
        stored: StoredResult | None = None,
        sources: tuple[str, ...] = (),
        parents: tuple[Relation, ...] = (),
    ) -> None:
        """Wrap a relation.

        stored: its rows, when it has run. sources: names under which Python variables
        were registered for it. parents: relations that it was made of.
        """
        self._connection = connection
        self._relation = relation
        self._parents = parents
        self._kept: duckdb.DuckDBPyRelation | None = None
        if sources:
            forget = connection._leftovers.add_views
            weakref.finalize(self, forget, sources).atexit = False
        if stored is not None:
            self._keep(stored)

    def quackllm_native(self) -> duckdb.DuckDBPyRelation:
        """Return DuckDB's relation, its calls by the scalar function."""
        return self._relation

    def quackllm_finished(self) -> duckdb.DuckDBPyRelation:
        """Return a relation over finished rows."""
        if self._kept is None:
            sql = self._relation.sql_query()
            connection = self._connection
            if FUNCTION not in sql and not connection._session.asks(sql):
                return self._relation
            connection._leftovers.drop()
            if _can_be_read_back(connection._raw, sql):
                self._keep(connection._session.query(sql, {}, connection._settings))
            else:
                with in_our_words(connection._engine.functions):
                    table = self._relation.to_arrow_table()
                self._kept = connection._raw.from_arrow(table)
        assert self._kept is not None
        return self._kept

    def _keep(self, stored: StoredResult) -> None:
        finish(self._connection._raw)
        self._kept = self._connection._raw.sql(stored.sql)
        drop = self._connection._leftovers.add_table
        weakref.finalize(self, drop, stored.table).atexit = False

    def _argument(self, value: Any, method: str) -> Any:
        session = self._connection._session
        if isinstance(value, duckdb.Expression):
            value = str(value) if OURS.search(str(value)) else value
        if not (isinstance(value, str) and holds_calls(value, self._connection._engine.functions)):
            return native(value)
        if method == "query":
            naive = session.naive_query(value)
        elif method in ("project", "select", "aggregate"):
            naive = session.naive_items(value)
        else:
            naive = session.naive_expression(value)
        finish(self._connection._raw)
        return naive

    def explain(self, type: Any = "standard") -> str:
        """Return the plan; of calls, how they will be made."""
        sql = self._relation.sql_query()
        connection = self._connection
        calls = FUNCTION in sql or connection._session.asks(sql)
        if not calls or not _can_be_read_back(connection._raw, sql):
            return str(self._relation.explain(type))
        connection._leftovers.drop()
        return connection._session.explain(sql, {}, connection._settings, analyze=False)[1]

    def __getattr__(self, name: str) -> Any:
        if name in RUNNING:
            return self._runner(name)
        attribute = getattr(self._relation, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def delegate(*args: Any, **options: Any) -> Any:
            if name == "create_view" and args:
                self._connection._engine.stored.add(str(args[0]))
            given = [self._argument(argument, name) for argument in args]
            named = {key: self._argument(value, name) for key, value in options.items()}
            result = attribute(*given, **named)
            if not isinstance(result, duckdb.DuckDBPyRelation):
                return result
            others = [v for v in (*args, *options.values()) if isinstance(v, Relation)]
            return Relation(self._connection, result, parents=(self, *others))

        return delegate

    def _runner(self, name: str) -> Any:
        attribute = getattr(type(self._relation), name, None)
        if attribute is None:
            return getattr(self._relation, name)  # raises DuckDB's error
        if not callable(attribute):
            return getattr(self.quackllm_finished(), name)

        def fetch(*args: Any, **options: Any) -> Any:
            result = getattr(self.quackllm_finished(), name)(*args, **options)
            if not isinstance(result, duckdb.DuckDBPyRelation):
                return result
            if name in IN_PLACE:
                return self
            return Relation(self._connection, result, parents=(self,))

        fetch.__name__ = name
        fetch.__doc__ = attribute.__doc__
        return fetch

    def __getitem__(self, name: str) -> Any:
        return Relation(self._connection, self._relation[name], parents=(self,))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._relation

    def __len__(self) -> int:
        return len(self.quackllm_finished())

    def __repr__(self) -> str:
        return repr(self.quackllm_finished())

    def __str__(self) -> str:
        return str(self.quackllm_finished())

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self.quackllm_finished().to_arrow_table().__arrow_c_stream__(requested_schema)


def _can_be_read_back(raw: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Whether the text of a relation says all of it.

    DuckDB 1.x writes addresses of Python objects, DuckDB 2 leaves out the values of
    parameters; such relations run as they are.
    """
    try:
        statements = raw.extract_statements(sql)
    except duckdb.Error:
        return False
    return not any(statement.named_parameters for statement in statements)
