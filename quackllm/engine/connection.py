"""The connection: duckdb's own, with LLM functions in its SQL."""

from __future__ import annotations

import functools
import json
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

import duckdb

from quackllm.engine import commands
from quackllm.engine.changes import Change
from quackllm.engine.clear_cache import is_clear_cache, selection_of
from quackllm.engine.definitions import refuse_in_definition
from quackllm.engine.engine import Engine
from quackllm.engine.explain import Parts
from quackllm.engine.introspection import NAMED, provide_tables
from quackllm.engine.leftovers import Leftovers
from quackllm.engine.lifetime import Household
from quackllm.engine.parameters import named_parameters
from quackllm.engine.places import relocated
from quackllm.engine.relation import Relation
from quackllm.engine.results import StoredResult
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.secrets import change_secrets, is_secret_command
from quackllm.engine.session import Session
from quackllm.engine.settings import Settings
from quackllm.engine.statement import (
    OURS,
    Explain,
    Statement,
    calls_in,
    explain_of,
    inner_query,
    is_query,
    split,
)
from quackllm.engine.stored import BRINGS_DEFINITIONS
from quackllm.engine.transactions import finish
from quackllm.engine.variables import (
    call_in_frame,
    is_one_shot,
    native,
    registered,
    scannable,
    table_names,
    table_variables,
)
from quackllm.engine.wording import in_our_words
from quackllm.errors import BindError
from quackllm.optimizer.sql import quote

NOTHING_DONE = "DROP TABLE IF EXISTS temp.__llm_none"
"""A statement whose result is that of a SET, and that changes nothing."""


class Connection:
    """Used exactly like a `duckdb.DuckDBPyConnection`, which answers all that is not here.

    A statement without an LLM function goes to DuckDB untouched. `llm_` settings are
    this connection's own; cursors begin with a copy of them.
    """

    def __init__(
        self,
        raw: duckdb.DuckDBPyConnection,
        engine: Engine,
        settings: Settings,
        household: Household | None = None,
    ) -> None:
        """Wrap a connection; a cursor belongs to the household of the first connection."""
        self._raw = raw
        self._engine = engine
        self._settings = settings
        self._session = Session(raw, engine, lambda: self._settings)
        self._leftovers = Leftovers(raw)
        self._one_shot: dict[str, Any] = {}
        self._is_first = household is None
        if household is None:
            household = Household(raw, engine, settings)
            register_scalar_function(raw, engine, household.current_settings())
        self._household = household

    # Statements

    def execute(
        self, query: Any, parameters: Any = None, *, multiple_parameter_sets: bool = False
    ) -> Any:
        """Run one statement or a script; the result of the last is there to be fetched."""
        frame = sys._getframe(1)
        if multiple_parameter_sets:
            return self._execute_many(query, parameters, frame)
        statements = self._ours(query)
        if statements is None:
            given = [] if parameters is None else [parameters]
            return self._wrap(self._plain(frame, "execute", query, *given))
        *before, last = statements
        for statement in before:
            self._statement(statement, None, frame)
        self._statement(last, parameters, frame)
        return self

    def executemany(self, query: Any, parameters: Any = None) -> Any:
        """Run a statement once for each set of parameters."""
        return self._execute_many(query, parameters, sys._getframe(1))

    def _execute_many(self, query: Any, parameters: Any, frame: FrameType) -> Any:
        statements = self._ours(query)
        if statements is None or not parameters:
            return self._wrap(self._plain(frame, "executemany", query, parameters))
        *before, last = statements
        for statement in before:
            self._statement(statement, None, frame)
        for values in parameters:
            self._statement(last, values, frame)
        return self

    def sql(self, query: Any, *, alias: str = "", params: Any = None) -> Any:
        """Make a relation of a query, or run any other statement as duckdb's `sql` does."""
        frame = sys._getframe(1)
        given = {"alias": alias} if alias else {}
        statements = self._ours(query)
        if statements is None:
            if params is not None:
                given["params"] = params
            return self._wrap(self._plain(frame, "sql", query, **given))
        *before, last = statements
        for statement in before:
            self._statement(statement, None, frame)
        if not (is_query(last) and self._calls(last)):
            return self._wrap(self._statement(last, params, frame, "sql"))
        self._leftovers.drop()
        with in_our_words(self._engine.functions):
            self._raw.extract_statements(last.sql)  # what is wrong with it, in DuckDB's words
            sources = self._provide_tables(last)
            sql, values = named_parameters(self._raw, last, params)
            last = last.rewritten(sql)
            last = last.rewritten(commands.with_current_settings(last, self._settings))
            if values:
                self._leftovers.add_views(sources)
                stored = self._query(last, values, frame)
                return Relation(self, self._raw.sql(stored.sql, **given), stored=stored)
            return self._relation(last, frame, given, sources)

    query = sql
    from_query = sql

    def answered(self, query: str) -> Relation:
        """Run one query with LLM functions now, as `execute` does; its rows as a relation.

        For servers: Python variables are not tables here. The relation's rows are kept as
        long as it lives. Raises as `execute` does.
        """
        [statement] = split(query)
        self._leftovers.drop()
        with in_our_words(self._engine.functions):
            self._raw.extract_statements(statement.sql)
            self._leftovers.add_views(self._provide_tables(statement))
            sql = commands.with_current_settings(statement, self._settings)
            stored = self._session.query(sql, {}, self._settings)
            finish(self._raw)
            return Relation(self, self._raw.sql(stored.sql), stored=stored)

    def calls_model(self, query: str) -> bool:
        """Whether one statement calls a model, itself or by a view or a macro. For servers."""
        statements = self._ours(query)
        return statements is not None and any(map(self._calls, statements))

    def interrupt(self) -> None:
        """End the statement that runs, from any thread: DuckDB's work and model calls alike."""
        self._raw.interrupt()
        self._session.interrupt()

    def _ours(self, query: Any) -> list[Statement] | None:
        """Split a script of which at least one statement is ours; None for any other.

        None also for what cannot be read: DuckDB says best what is wrong with it.
        """
        if isinstance(query, duckdb.Statement):
            query = query.query
        if not isinstance(query, str):
            return None
        if not (OURS.search(query) or self._session.mentions_stored(query) or _attaches(query)):
            return None
        try:
            statements = split(query)
            ours = any(self._is_ours(statement) for statement in statements)
            ours |= len(statements) > 1 and _attaches(query)
        except BindError:
            if commands.HOLDS_KEY.search(query):
                raise BindError("Parser Error: a quote is not closed") from None
            return None
        return statements if ours else None

    def _is_ours(self, statement: Statement) -> bool:
        return bool(
            self._is_command(statement)
            or calls_in(statement, self._engine.functions)
            or NAMED.search(statement.sql)
            or commands.CURRENT_SETTING.search(statement.sql)
            or self._engine.table_functions.used_in(statement)
            or self._session.mentions_stored(statement.sql)
        )

    def _calls(self, statement: Statement) -> bool:
        """Whether a statement calls a model, itself or by a view or a macro."""
        return bool(calls_in(statement, self._engine.functions)) or self._session.asks(
            statement.sql
        )

    def _is_command(self, statement: Statement) -> bool:
        return commands.is_command(statement) or is_secret_command(statement, self._engine.secrets)

    def _statement(
        self, statement: Statement, parameters: Any, frame: FrameType, method: str = "execute"
    ) -> Any:
        """Run one statement; `method` of DuckDB's connection gives its result."""
        self._leftovers.drop()
        self._engine.stored.note(statement)
        if self._is_command(statement):
            return self._command(statement, parameters, method)
        with in_our_words(self._engine.functions):
            self._raw.extract_statements(_for_duckdb(statement))
            refuse_in_definition(statement, self._engine.functions, self._engine.stored)
            sources = self._provide_tables(statement)
            calls = self._calls(statement)
            sql = commands.with_current_settings(statement, self._settings)
            statement = statement.rewritten(sql)
            if not calls:
                given = {} if parameters is None else {_keyword(method): parameters}
                result = self._plain(frame, method, sql, **given)
                if isinstance(result, duckdb.DuckDBPyRelation):
                    return Relation(self, result, sources=sources)
                self._leftovers.add_views(sources)
                return result
            self._leftovers.add_views(sources)
            if statement.first_word == "PREPARE":
                return self._session.other(sql, {}, self._settings, method)
            sql, values = named_parameters(self._raw, statement, parameters)
            return self._with_calls(statement.rewritten(sql), values, frame, method)

    def _with_calls(
        self, statement: Statement, values: Mapping[str, Any], frame: FrameType, method: str
    ) -> Any:
        explain = explain_of(statement)
        inner = statement.between(explain.length if explain else 0, len(statement.sql))
        if explain is not None and inner.tokens:
            if is_query(inner):
                return self._explain(explain, inner, values, frame, method)
            parts = None if explain.analyze else self._session.changes.parts_of(inner, values)
            if parts is not None:
                return self._explain(explain, inner, values, frame, method, parts)
        if is_query(statement):
            stored = self._query(statement, values, frame)
            self._raw.execute(stored.sql)
            self._leftovers.add_table(stored.table)
            return self._raw
        return self._other(statement, values, frame, method)

    def _query(
        self, statement: Statement, values: Mapping[str, Any], frame: FrameType
    ) -> StoredResult:
        with registered(self._raw, self._variables(statement, frame)):
            return self._session.query(statement.sql, values, self._settings)

    def _other(
        self, statement: Statement, values: Mapping[str, Any], frame: FrameType, method: str
    ) -> Any:
        sql = statement.sql
        with registered(self._raw, self._variables(statement, frame)):
            change = self._session.changes.change_of(statement, values)
            done = (
                self._session.change(sql, change, values, self._settings)
                if isinstance(change, Change)
                else None
            )
        if done is not None:  # beyond the variables, whose end would take the result with it
            return self._changed(done, method)
        span = inner_query(statement)
        query = None if span is None else statement.between(*span)
        if span is not None and query is not None and self._calls(query):
            stored = self._query(query, values, frame)
            sql = sql[: span[0]] + " " + stored.sql + " " + sql[span[1] :]
            statement = split(sql)[0]
            if method == "sql":  # a relation reads it later
                return self._over(stored, statement, values, frame)
            self._leftovers.add_table(stored.table)
        variables = self._variables(statement, frame)
        for name, value in variables.items():
            self._raw.register(name, scannable(value))
        self._leftovers.add_views(tuple(variables))
        return self._session.other(sql, values, self._settings, method)

    def _over(
        self,
        stored: StoredResult,
        statement: Statement,
        values: Mapping[str, Any],
        frame: FrameType,
    ) -> Any:
        """Run a statement over stored rows; keep them as long as a relation over them."""
        try:
            result = self._other(statement, values, frame, "sql")
        except BaseException:
            self._leftovers.add_table(stored.table)
            raise
        if not isinstance(result, duckdb.DuckDBPyRelation):
            self._leftovers.add_table(stored.table)
            return result
        relation = Relation(self, result)
        weakref.finalize(relation, self._leftovers.add_table, stored.table).atexit = False
        return relation

    def _changed(self, done: StoredResult | int, method: str) -> Any:
        """Give the result of a change as DuckDB's method gives it."""
        if isinstance(done, int):
            counted = self._raw.execute('SELECT CAST(? AS BIGINT) AS "Count"', [done])
            return counted if method == "execute" else None
        self._leftovers.add_table(done.table)
        return getattr(self._raw, method)(done.sql)

    def _explain(
        self,
        explain: Explain,
        query: Statement,
        values: Mapping[str, Any],
        frame: FrameType,
        method: str,
        parts: Parts | None = None,
    ) -> Any:
        """Explain a query, or the parts of another statement that are planned."""
        verbose = explain.verbose
        with registered(self._raw, self._variables(query, frame)):
            if parts is not None:
                data, text = self._session.explain_parts(
                    parts, values, self._settings, verbose=verbose
                )
            else:
                data, text = self._session.explain(
                    query.sql, values, self._settings, analyze=explain.analyze, verbose=verbose
                )
        shown = json.dumps(data, ensure_ascii=False, indent=2) if explain.json else text
        name = "analyzed_plan" if explain.analyze else "llm_plan"
        given = {"name": name, "plan": shown}
        return getattr(self._raw, method)(
            "SELECT $name AS explain_key, $plan AS explain_value", **{_keyword(method): given}
        )

    def _command(self, statement: Statement, parameters: Any, method: str) -> Any:
        sql, values = named_parameters(self._raw, statement, parameters)
        statement = statement.rewritten(sql)

        def evaluate(expression: str) -> Any:
            return self._session.evaluate(expression, values)

        if is_secret_command(statement, self._engine.secrets):
            change_secrets(statement, self._engine.secrets, evaluate)
            return getattr(self._raw, method)(NOTHING_DONE)
        if is_clear_cache(statement):
            selection = selection_of(statement, self._engine, evaluate)
            gone = self._engine.answers(self._settings).clear(selection)
            return getattr(self._raw, method)(f"SELECT CAST({gone} AS BIGINT) AS answers_cleared")
        changed = commands.changed_settings(statement, self._settings, evaluate)
        if changed is not None:
            self._settings = changed
            if self._is_first:
                self._household.settings = changed
        else:
            commands.change_models(statement, self._engine.models, evaluate)
        return getattr(self._raw, method)(NOTHING_DONE)

    def _provide_tables(self, statement: Statement) -> tuple[str, ...]:
        """Make llm_queries() and the like selectable; return what is registered for that."""
        functions = self._engine.table_functions
        if self._session.mentions_stored(statement.sql):
            functions.provide(self._raw)
        elif functions.used_in(statement):
            functions.provide(self._raw, statement.sql)
        register = self._leftovers.register_sources
        return provide_tables(self._raw, statement, self._engine, self._settings, register)

    def _variables(self, statement: Statement, frame: FrameType) -> dict[str, Any]:
        """Find what a statement reads from Python; make one-shot streams of it readable."""
        for name in table_names(statement.tokens):
            if name in self._one_shot:
                self._raw.register(name, self._one_shot.pop(name).read_all())
        return table_variables(self._raw, statement.tokens, frame)

    # Results

    def _relation(
        self,
        query: Statement,
        frame: FrameType,
        given: Mapping[str, Any],
        provided: tuple[str, ...],
    ) -> Relation:
        """Make a relation of a query with calls; DuckDB binds it now, models run later.

        provided: names that were registered for it, to be forgotten with it.
        """
        variables = self._variables(query, frame)
        sources = self._leftovers.register_sources(variables)
        with registered(self._raw, variables):
            naive = self._session.naive_query(query.sql)
        shown = ", ".join(f'{quote(name)} AS (FROM "{source}")' for name, source in sources.items())
        finish(self._raw)
        text = f"WITH {shown} SELECT * FROM ({naive}\n)" if sources else naive
        try:
            made = self._raw.sql(text, **given)
        except duckdb.Error as error:
            raise relocated(error, query.sql, self._engine.functions) from None
        return Relation(self, made, sources=(*provided, *sources.values()))

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, duckdb.DuckDBPyRelation):
            return Relation(self, value)
        return self if value is self._raw else value

    def _plain(self, frame: FrameType, method: str, *args: Any, **options: Any) -> Any:
        """Hand a call to DuckDB as if the user's frame had made it."""
        self._leftovers.drop()
        call = functools.partial(getattr(self._raw, method), *args, **options)
        if isinstance(args[0], str) and _attaches(args[0]):
            self._engine.stored.outdated = True  # the next statement looks
        return self._worded(call_in_frame, frame, args[0], call)

    def _worded(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, errors in our words; quick, since every statement passes here."""
        try:
            return function(*args)
        except duckdb.Error as error:
            with in_our_words(self._engine.functions):
                raise error from None

    # The rest of duckdb's connection

    def fetchone(self) -> Any:
        """Fetch the next row of the result, None when there is none."""
        return self._worded(self._raw.fetchone)

    def fetchmany(self, size: int = 1) -> Any:
        """Fetch the next rows of the result."""
        return self._worded(self._raw.fetchmany, size)

    def fetchall(self) -> Any:
        """Fetch all remaining rows of the result."""
        return self._worded(self._raw.fetchall)

    def register(self, view_name: str, python_object: Any, **options: Any) -> Self:
        """Make a Python object a table, as duckdb does.

        A RecordBatchReader, which can be read once, is read into memory by the first
        statement that needs it more often.
        """
        self._raw.register(view_name, native(python_object), **options)
        self._one_shot.pop(view_name, None)
        if is_one_shot(python_object):
            self._one_shot[view_name] = python_object
        return self

    def cursor(self) -> Connection:
        """Make a second connection to the same database, with the same settings and engine."""
        return Connection(self._raw.cursor(), self._engine, self._settings, self._household)

    duplicate = cursor

    def close(self) -> None:
        """Close the connection and end its calls; the first one also closes its cursors."""
        self._session.interrupt()
        self._leftovers.drop()
        if self._is_first:
            self._household.end()
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
            named = {key: native(value) for key, value in options.items()}
            with in_our_words(self._engine.functions):
                return self._wrap(getattr(self._raw, name)(*given, **named))

        return delegate

    def __dir__(self) -> Sequence[str]:
        return sorted({*super().__dir__(), *dir(self._raw)})


def _for_duckdb(statement: Statement) -> str:
    """The part of a statement that DuckDB's parser can read: EXPLAIN VERBOSE is ours."""
    explain = explain_of(statement)
    if explain is None or not explain.verbose:
        return statement.sql
    return statement.sql[explain.length :]


def _attaches(sql: str) -> bool:
    """Whether a text may bring views and macros of another database."""
    return BRINGS_DEFINITIONS.search(sql) is not None


def _keyword(method: str) -> str:
    """What DuckDB's method calls the values of parameters."""
    return "params" if method == "sql" else "parameters"
