"""The connection: duckdb's own, with LLM functions in its SQL."""

from __future__ import annotations

import functools
import json
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

import duckdb

from quackllm.engine import commands
from quackllm.engine.engine import Engine
from quackllm.engine.executor import drop_temporary
from quackllm.engine.introspection import provide_tables
from quackllm.engine.parameters import named_parameters
from quackllm.engine.relation import Relation
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.session import Session, StoredResult
from quackllm.engine.settings import Settings
from quackllm.engine.statement import (
    OURS,
    Statement,
    calls_in,
    explain_of,
    inner_query,
    is_query,
    split,
    unknown_calls,
)
from quackllm.engine.variables import call_in_frame, native, registered, table_variables
from quackllm.errors import BindError
from quackllm.optimizer.naive import FUNCTION


class Connection:
    """Used exactly like a `duckdb.DuckDBPyConnection`, which answers all that is not here.

    A statement without an LLM function goes to DuckDB untouched. `llm_` settings are
    this connection's own; cursors begin with a copy of them.
    """

    def __init__(
        self, raw: duckdb.DuckDBPyConnection, engine: Engine, settings: Settings, *, owner: bool
    ) -> None:
        """Wrap a connection. `owner` closes the engine together with the connection."""
        self._raw = raw
        self._engine = engine
        self._settings = settings
        self._owner = owner
        self._session = Session(raw, engine)
        self._garbage: list[str] = []
        if owner:
            this = weakref.ref(self)  # the function must not keep its connection alive
            register_scalar_function(raw, engine, lambda: _settings_of(this))
            # DuckDB complains at exit about functions of connections that are still open.
            weakref.finalize(self, _release, raw, engine)

    # Statements

    def execute(
        self, query: Any, parameters: Any = None, *, multiple_parameter_sets: bool = False
    ) -> Self:
        """Run one statement or a script; the result of the last is there to be fetched."""
        frame = sys._getframe(1)
        if multiple_parameter_sets:
            return self.executemany(query, parameters)
        if not isinstance(query, str) or not OURS.search(query):
            self._plain(frame, "execute", query, *([] if parameters is None else [parameters]))
            return self
        statements = split(query)
        for statement in statements:
            self._execute(statement, parameters, frame)
        return self

    def executemany(self, query: Any, parameters: Any = None) -> Self:
        """Run a statement once for each set of parameters."""
        frame = sys._getframe(1)
        if not isinstance(query, str) or not OURS.search(query):
            self._plain(frame, "executemany", query, parameters)
            return self
        for values in parameters or []:
            for statement in split(query):
                self._execute(statement, values, frame)
        return self

    def sql(self, query: Any, *, alias: str = "", params: Any = None) -> Any:
        """Make a relation of a query, or run any other statement and return None."""
        frame = sys._getframe(1)
        given = {"alias": alias} if alias else {}
        if params is not None:
            given["params"] = params
        if not isinstance(query, str) or not OURS.search(query):
            return self._wrap(self._plain(frame, "sql", query, **given))
        *before, last = split(query) or [None]
        for statement in before:
            self._execute(statement, params, frame)
        if last is None:
            return self._wrap(self._plain(frame, "sql", query, **given))
        if not (is_query(last) and calls_in(last, self._engine.functions)):
            if explain_of(last) is None and not commands.OURS.match(last.sql):
                provide_tables(self._raw, last.sql, self._engine, self._settings)
                text = commands.with_current_settings(last.sql, self._settings)
                self._check_names(last)
                if not calls_in(last, self._engine.functions):
                    return self._wrap(self._plain(frame, "sql", text, **given))
            self._execute(last, params, frame)
            return None
        sql, values = named_parameters(last, params)
        if values:
            result = self._query(sql, values, frame)
            return self._relation_of(result)
        text = self._session.naive_query(sql)
        return self._wrap(
            self._plain(frame, "sql", text, **({"alias": alias} if alias else {})), frame
        )

    query = sql
    from_query = sql

    def _execute(self, statement: Statement, parameters: Any, frame: FrameType) -> None:
        self._forget_result()
        if commands.OURS.match(statement.sql):
            self._command(statement)
            return
        provide_tables(self._raw, statement.sql, self._engine, self._settings)
        explain = explain_of(statement)
        found = calls_in(statement, self._engine.functions)
        if not found:
            self._check_names(statement)
            text = commands.with_current_settings(statement.sql, self._settings)
            self._plain(frame, "execute", text, *([] if parameters is None else [parameters]))
            return
        sql, values = named_parameters(statement, parameters)
        sql = commands.with_current_settings(sql, self._settings)
        if explain is not None:
            inner = split(sql[explain.length :])[0] if sql[explain.length :].strip() else None
            if inner is not None and is_query(inner):
                self._explain(
                    inner.sql, values, frame, analyze=explain.analyze, as_json=explain.json
                )
                return
        if is_query(statement):
            self._pend(self._query(sql, values, frame))
            return
        self._other(split(sql)[0], values, frame)

    def _query(self, sql: str, values: Mapping[str, Any], frame: FrameType) -> StoredResult:
        with registered(self._raw, table_variables(self._raw, split(sql)[0].tokens, frame)):
            return self._session.query(sql, values, self._settings)

    def _other(self, statement: Statement, values: Mapping[str, Any], frame: FrameType) -> None:
        sql = statement.sql
        span = inner_query(statement)
        if span is None or not calls_in(split(sql[span[0] : span[1]])[0], self._engine.functions):
            with registered(self._raw, table_variables(self._raw, split(sql)[0].tokens, frame)):
                self._session.other(sql, values, self._settings)
            return
        stored = self._query(sql[span[0] : span[1]], values, frame)
        try:
            text = sql[: span[0]] + " " + stored.sql + " " + sql[span[1] :]
            self._session.other(text, values, self._settings)
        finally:
            self._garbage.append(stored.table)

    def _explain(
        self, sql: str, values: Mapping[str, Any], frame: FrameType, *, analyze: bool, as_json: bool
    ) -> None:
        with registered(self._raw, table_variables(self._raw, split(sql)[0].tokens, frame)):
            entries, text = self._session.explain(sql, values, self._settings, analyze=analyze)
        shown = json.dumps(entries, ensure_ascii=False, indent=2) if as_json else text
        name = "analyzed_plan" if analyze else "llm_plan"
        self._raw.execute(
            "SELECT $name AS explain_key, $plan AS explain_value", {"name": name, "plan": shown}
        )

    def _command(self, statement: Statement) -> None:
        changed = commands.changed_settings(statement.sql, self._settings, self._evaluate)
        if changed is not None:
            self._settings = changed
        elif not commands.changed_models(statement, self._engine.models, self._evaluate):
            raise BindError(f"Parser Error: cannot read {statement.sql}")
        self._raw.execute("SELECT 1 WHERE false")

    def _evaluate(self, expression: str) -> Any:
        row = self._raw.execute(f"SELECT {expression}").fetchone()
        return None if row is None else row[0]

    def _check_names(self, statement: Statement) -> None:
        for name, close in unknown_calls(statement, self._engine.functions):
            known = self._raw.execute(
                "SELECT count(*) FROM duckdb_functions() WHERE function_name = lower($name)",
                {"name": name},
            ).fetchone()
            if known is not None and not known[0]:
                raise BindError(
                    f"Catalog Error: Scalar Function with name {name.lower()} does not exist!\n"
                    f'Did you mean "{close}"?'
                )

    # Results

    def _pend(self, result: StoredResult) -> None:
        self._raw.execute(result.sql)
        self._garbage.append(result.table)

    def _forget_result(self) -> None:
        """Drop the rows of results that nothing refers to any more."""
        while self._garbage:
            drop_temporary(self._raw, self._garbage.pop())

    def _relation_of(self, result: StoredResult) -> Relation:
        return Relation(self, self._raw.sql(result.sql), None, result)

    def _wrap(self, value: Any, frame: FrameType | None = None) -> Any:
        if not isinstance(value, duckdb.DuckDBPyRelation):
            return value
        variables: dict[str, Any] = {}
        if frame is not None:
            variables = table_variables(self._raw, split(value.sql_query())[0].tokens, frame)
        return Relation(self, value, variables)

    def _plain(self, frame: FrameType, method: str, *args: Any, **options: Any) -> Any:
        """Hand a call to DuckDB as if the user's frame had made it."""
        if self._garbage:
            self._forget_result()
        return call_in_frame(frame, functools.partial(getattr(self._raw, method), *args, **options))

    # The rest of duckdb's connection

    def cursor(self) -> Connection:
        """Make a second connection to the same database, with the same settings and engine."""
        return Connection(self._raw.cursor(), self._engine, self._settings, owner=False)

    duplicate = cursor

    def close(self) -> None:
        """Close the connection; the first one also ends outstanding calls."""
        self._forget_result()
        if self._owner:
            self._engine.close()
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def llm_settings(self) -> Settings:
        """The `llm_` settings of this connection."""
        return self._settings

    @property
    def llm_engine(self) -> Engine:
        """The engine: its `events`, `history` and `failures`."""
        return self._engine

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._raw, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def delegate(*args: Any, **options: Any) -> Any:
            given = [native(argument) for argument in args]
            result = getattr(self._raw, name)(*given, **{k: native(v) for k, v in options.items()})
            if result is self._raw:
                return self
            return self._wrap(result)

        return delegate

    def __dir__(self) -> Sequence[str]:
        return sorted({*super().__dir__(), *dir(self._raw)})


def _settings_of(this: weakref.ref[Connection]) -> Settings:
    connection = this()
    return Settings() if connection is None else connection.llm_settings


def _release(raw: duckdb.DuckDBPyConnection, engine: Engine) -> None:
    engine.close()
    with suppress(duckdb.Error):
        raw.remove_function(FUNCTION)
