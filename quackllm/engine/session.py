"""What a connection does with LLM statements: plan, run, explain, account for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import duckdb

from quackllm.engine.accounts import Accounts
from quackllm.engine.alternatives import Alternative, alternatives
from quackllm.engine.catalog import DuckDBFacts, used_parameters
from quackllm.engine.change_reader import ChangeReader
from quackllm.engine.changes import Change
from quackllm.engine.definitions import is_definition
from quackllm.engine.engine import Engine
from quackllm.engine.estimates import Estimates, Estimator, StageEstimate, undecided
from quackllm.engine.executor import Executor, drop_temporary
from quackllm.engine.explain import Parts, as_text, explained
from quackllm.engine.keyboard import ended_by_keyboard
from quackllm.engine.notices import log_missing_answers
from quackllm.engine.places import relocated, shown_in
from quackllm.engine.planner import PlannedQuery, Planner
from quackllm.engine.results import StoredResult
from quackllm.engine.run import Run
from quackllm.engine.settings import Settings
from quackllm.engine.statement import (
    calls_in,
    holds_calls,
    split,
)
from quackllm.engine.table_functions.resolver import Host, Made, Resolver, Use, UseEstimate
from quackllm.engine.transactions import aborted_by_errors, finish, is_aborted, transaction
from quackllm.engine.wording import in_our_words
from quackllm.engine.written_order import EVALUATION, in_written_order
from quackllm.optimizer.program import Program
from quackllm.optimizer.sql import quote

SUMMARIZE = re.compile(r"SUMMARIZE\b", re.IGNORECASE)


class Session:
    """One connection's way of running statements that hold LLM functions."""

    def __init__(
        self,
        raw: duckdb.DuckDBPyConnection,
        engine: Engine,
        current_settings: Callable[[], Settings] = Settings,
    ) -> None:
        """Make one; `current_settings` says which model has to be asked while planning."""
        self._raw = raw
        self._engine = engine
        self._planner = Planner(
            raw,
            engine.functions,
            DuckDBFacts(),
            engine.stored,
            lambda call: engine.dimensions(current_settings(), call),
            engine.table_functions,
        )
        self.changes = ChangeReader(self._planner, self._may_call)
        self._executor = Executor(raw)
        self._run: Run | None = None

    def interrupt(self) -> None:
        """End the calls of the statement that runs now, from any thread."""
        run = self._run
        if run is not None:
            run.interrupt()

    def mentions_stored(self, sql: str) -> bool:
        """Whether a text may name a view or a macro that calls a model; quick."""
        stored = self._engine.stored
        if stored.outdated:
            stored.refresh(self._raw)
        return stored.mentioned_in(sql)

    def reads_stored(self, sql: str) -> bool:
        """Whether a statement evaluates a view or a macro that may call a model."""
        return self.mentions_stored(sql) and self._planner.reads_stored(sql)

    def asks(self, sql: str) -> bool:
        """Whether a statement uses a table function that may call a model, or `reads_stored`."""
        functions = self._engine.table_functions
        return (
            functions.mentioned_in(sql) and any(map(functions.used_in, split(sql)))
        ) or self.reads_stored(sql)

    def _may_call(self, part: str) -> bool:
        """Whether a part of a statement may call a model."""
        uses_tables = self._engine.table_functions.mentioned_in(part)
        calls_itself = holds_calls(part, self._engine.functions)
        return calls_itself or uses_tables or self.mentions_stored(part)

    def query(self, sql: str, parameters: Mapping[str, Any], settings: Settings) -> StoredResult:
        """Run a query and keep its rows."""
        with self._running(sql, settings) as run:
            if SUMMARIZE.match(sql):
                sql = f"FROM ({sql})"  # DuckDB 1.x describes and stores no other form of it
            with self._with_tables(sql, parameters, settings, run) as made:
                planned, table = self._answered(made.sql, parameters, settings, run)
        return StoredResult(table, planned.schema)

    def other(
        self, sql: str, parameters: Mapping[str, Any], settings: Settings, method: str
    ) -> Any:
        """Run a statement of another kind, its calls, if any, by the scalar function.

        Returns what DuckDB's `execute` or `sql` returns for it.
        """
        [statement] = split(sql)
        calls = bool(calls_in(statement, self._engine.functions))
        if not calls and not self.reads_stored(sql):
            return self._hand_over(sql, parameters, sql, method)
        if is_definition(statement):
            text = self._planner.definition(statement, parameters)
            return self._hand_over(text, parameters, sql, method)
        with self._running(sql, settings) as run:
            text = self._planner.other(sql, parameters, run.id)
            return self._hand_over(text, parameters, sql, method)

    def change(
        self, sql: str, change: Change, parameters: Mapping[str, Any], settings: Settings
    ) -> StoredResult | int:
        """Run a change: ask what it needs to know, change the rows, ask about what it returns.

        Returns the rows of RETURNING or the number of rows changed. Raises what stops a
        statement, and then nothing has changed.
        """
        with self._running(sql, settings) as run:
            try:
                return self._changed(change, parameters, settings, run)
            except EVALUATION as error:
                if change.source is None or is_aborted(self._raw):
                    raise
                return self._changed(change, parameters, settings, run, error)

    def _changed(
        self,
        change: Change,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run,
        error: duckdb.Error | None = None,
    ) -> StoredResult | int:
        """Do as `change` does; error: that of a first try, of which nothing has changed."""
        with (
            transaction(self._raw),
            self._rows_of(change, parameters, settings, run, error) as rows,
        ):
            text = self._planner.other(change.applied(rows), parameters, run.id)
            given = used_parameters(self._raw, text, parameters)
            if change.returning is None:
                return int(self._raw.execute(text, given).fetchall()[0][0])
            if not change.asks_after:
                return self._returned(text, given, run)
            with aborted_by_errors(self._raw):
                changed = self._returned(text, given, run)
                query = change.returning.over(changed.sql)
                run.begin_part()
                planned = self._affordable(query, parameters, settings, run)
                table = self._executed(planned, parameters, settings, run, "_returned")
                drop_temporary(self._raw, changed.table)
                return StoredResult(table, planned.schema)

    @contextmanager
    def _rows_of(
        self,
        change: Change,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run,
        error: duckdb.Error | None,
    ) -> Iterator[str]:
        """Ask what a change needs to know; give what holds the rows, '' where it needs none."""
        if change.source is None:
            yield ""
            return
        with self._with_tables(change.source, parameters, settings, run) as made:
            if error is None:
                planned = self._affordable(made.sql, parameters, settings, run)
            else:
                planned = self._in_written_order(error, made.sql, parameters, run)
            stored = StoredResult(
                self._executed(planned, parameters, settings, run), planned.schema
            )
            yield stored.sql if change.named else f"temp.{quote(stored.table)}"
            drop_temporary(self._raw, stored.table)

    def _returned(self, text: str, given: dict[str, Any] | None, run: Run) -> StoredResult:
        """Run a change and keep the rows that it returns: the end of a transaction drops them."""
        finish(self._raw)
        returned = self._raw.sql(text, params=given)
        schema = tuple(
            (name, str(type_)) for name, type_ in zip(returned.columns, returned.types, strict=True)
        )
        table = f"__llm_returned_{run.id}"
        columns = ", ".join(f"c{i}" for i in range(len(schema)))
        self._raw.execute(
            f"CREATE TEMP TABLE {quote(table)} AS SELECT * FROM returned AS r({columns})"
        )
        return StoredResult(table, schema)

    def _hand_over(
        self, text: str, parameters: Mapping[str, Any], written: str, method: str
    ) -> Any:
        given = used_parameters(self._raw, text, parameters)
        try:
            if method == "sql":
                return self._raw.sql(text, params=given)
            return self._raw.execute(text, given)
        except duckdb.Error as error:
            raise relocated(error, written, self._engine.functions) from None

    def evaluate(self, expression: str, parameters: Mapping[str, Any]) -> Any:
        """Evaluate a constant SQL expression."""
        sql = f"SELECT {expression}"
        given = used_parameters(self._raw, sql, parameters)
        return self._raw.execute(sql, given).fetchall()[0][0]

    def naive_expression(self, sql: str) -> str:
        """Write an expression, such as a relation's filter, with its calls in naive form."""
        return self._planner.other(sql, {}, "")

    def naive_items(self, items: str) -> str:
        """Write a select list with its calls in naive form, its items named."""
        query = self._planner.naive_query(f"SELECT {items}", "")
        return query.removeprefix("SELECT ")

    def naive_query(self, sql: str) -> str:
        """Write a SELECT with its calls in naive form."""
        try:
            return self._planner.naive_query(sql, "")
        except duckdb.Error as error:
            raise relocated(error, sql, self._engine.functions) from None

    def explain_parts(
        self, parts: Parts, parameters: Mapping[str, Any], settings: Settings, *, verbose: bool
    ) -> tuple[dict[str, Any], str]:
        """Describe how a statement runs that is no query, as data and as text."""
        after = None
        if parts.after:
            after = self._planned(parts.after, parameters, settings, None).program
        if parts.query is None:
            described = explained(Program((), ""), {}, after=after, unstaged=parts.unstaged)
            return described, as_text(described)
        return self.explain(
            parts.query,
            parameters,
            settings,
            analyze=False,
            verbose=verbose,
            after=after,
            unstaged=parts.unstaged,
        )

    def explain(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        settings: Settings,
        *,
        analyze: bool,
        verbose: bool = False,
        after: Program | None = None,
        unstaged: tuple[str, ...] = (),
    ) -> tuple[dict[str, Any], str]:
        """Describe how a SELECT runs, as data and as text; with `analyze`, run it first.

        Without `analyze` no model is called: only DuckDB counts argument tuples. With
        `verbose`, the ways that were not taken are planned and costed too. after, unstaged: of
        the statement that the SELECT is a part of, as in `Parts`.
        """
        if analyze:
            return self._analyzed(sql, parameters, settings, verbose=verbose)
        with self._with_tables(sql, parameters, settings, None, announce=True) as made:
            planned = self._planned(made.sql, parameters, settings, None)
            self._tell_doubts(planned)
            estimates, others = self._estimated(
                planned, made.sql, parameters, settings, None, verbose
            )
            open_ = undecided(planned, estimates, settings)
            accounts = Accounts(self._raw, self._engine, settings, parameters)
            refusal = accounts.refusal(planned, estimates)
        described = explained(
            planned.program,
            estimates,
            None,
            others,
            undecided=open_,
            refusal=refusal,
            made=made,
            after=after,
            unstaged=unstaged,
        )
        return described, as_text(described)

    def _analyzed(
        self, sql: str, parameters: Mapping[str, Any], settings: Settings, *, verbose: bool
    ) -> tuple[dict[str, Any], str]:
        """Run a SELECT, and describe how it ran, as data and as text."""
        with (
            self._running(sql, settings) as run,
            self._with_tables(sql, parameters, settings, run, announce=True) as made,
        ):
            planned = self._affordable(made.sql, parameters, settings, run)
            estimates, others = self._estimated(
                planned, made.sql, parameters, settings, run, verbose
            )
            try:
                table = self._executed(planned, parameters, settings, run)
            except EVALUATION as error:
                planned = self._in_written_order(error, made.sql, parameters, run)
                table = self._executed(planned, parameters, settings, run)
            self._raw.execute(f"DROP TABLE temp.{quote(table)}")
        described = explained(planned.program, estimates, run.stats, others, made=made)
        return described, as_text(described)

    def _tell_doubts(self, planned: PlannedQuery) -> None:
        for doubt in planned.doubts:
            self._engine.notify(doubt)

    def _estimated(
        self,
        planned: PlannedQuery,
        sql: str,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run | None,
        verbose: bool,
    ) -> tuple[Estimates, list[Alternative] | None]:
        """Estimate a plan before it runs and, with `verbose`, the ways not taken."""
        running = None if run is None else run.stats
        estimator = Estimator(self._raw, self._engine, settings, parameters, running)
        estimates = estimator.stages(planned)
        if not verbose:
            return estimates, None

        def plan_without(rules: frozenset[str]) -> PlannedQuery:
            disabled = ", ".join(sorted({settings.disabled_rules, *rules} - {""}))
            others = replace(settings, disabled_rules=disabled)
            return self._planned(sql, parameters, others, run)

        return estimates, alternatives(estimator, planned, estimates, plan_without)

    def _affordable(
        self, sql: str, parameters: Mapping[str, Any], settings: Settings, run: Run
    ) -> PlannedQuery:
        """Plan a SELECT that is to run. Raises `BudgetExceeded` when it costs too much for certain.

        With a budget it is planned without samples first: what is certain is told before
        any call, unless a sample may still change the order of its predicates.
        """
        if not run.budget.limits:
            return self._planned(sql, parameters, settings, run)
        planned = self._planned(sql, parameters, settings, run, samples=False)
        accounts = Accounts(self._raw, self._engine, settings, parameters)
        if accounts.undecided(planned):
            with accounts.telling(planned):
                planned = self._planned(sql, parameters, settings, run)
        accounts.refuse_beyond(run, planned)
        return planned

    def _answered(
        self, sql: str, parameters: Mapping[str, Any], settings: Settings, run: Run
    ) -> tuple[PlannedQuery, str]:
        """Plan a SELECT and run it; return the plan that has run and the table of its rows."""
        try:
            planned = self._affordable(sql, parameters, settings, run)
            return planned, self._executed(planned, parameters, settings, run)
        except EVALUATION as error:
            planned = self._in_written_order(error, sql, parameters, run)
            return planned, self._executed(planned, parameters, settings, run)

    def _in_written_order(
        self, error: duckdb.Error, sql: str, parameters: Mapping[str, Any], run: Run
    ) -> PlannedQuery:
        return in_written_order(error, sql, parameters, run.id, self._planner, self._raw)

    def _executed(
        self,
        planned: PlannedQuery,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run,
        part: str = "",
    ) -> str:
        """Run a plan; return the table of its rows. part: tells those of one statement apart."""
        self._tell_doubts(planned)
        run.stats.doubts.extend(planned.doubts)
        with Accounts(self._raw, self._engine, settings, parameters).telling(planned):
            return self._executor.execute(planned.program, planned.schema, parameters, run, part)

    def _planned(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run | None,
        *,
        samples: bool = True,
    ) -> PlannedQuery:
        """Plan a SELECT; with a run, samples may be asked of the model."""

        def ask(sample: PlannedQuery) -> tuple[Any, ...]:
            assert run is not None
            table = self._executor.execute(sample.program, sample.schema, parameters, run)
            [row] = self._raw.execute(f"FROM temp.{quote(table)}").fetchall()
            drop_temporary(self._raw, table)
            return tuple(row)

        disabled = frozenset(name.strip() for name in settings.disabled_rules.split(","))
        return self._planner.query(
            sql,
            parameters,
            "" if run is None else run.id,
            disabled,
            ask if run is not None and samples else None,
            approximate=settings.approximate == "auto",
        )

    @contextmanager
    def _with_tables(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run | None,
        *,
        announce: bool = False,
    ) -> Iterator[Made]:
        """Make the rows of a SELECT's table functions; give the SELECT that reads them.

        Without a run no model is called. announce: whether what they ask is to be told.
        """
        functions = self._engine.table_functions
        if not functions.mentioned_in(sql) and (
            not self.mentions_stored(sql) or self._planner.with_table_functions(sql) is None
        ):
            yield Made(sql)
            return
        made = Made(sql)
        told = self._telling(made, parameters, settings, run, announce=announce)
        host = self._host(sql, parameters, settings, run, told)
        catalog = self._planner.catalog(parameters)
        resolver = Resolver(self._raw, functions, self._planner, catalog, host)
        try:
            with transaction(self._raw):
                made.sql = resolver.resolved(sql)
                made.stages_before = made.questions if run is None else run.begin_part()
                yield made
        finally:
            resolver.close()

    def _host(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run | None,
        told: Callable[[Use], None] | None,
    ) -> Host:
        """Give table functions what they need of a statement: how its parts are run."""
        parts = count(1)

        def plan(part: str) -> PlannedQuery:
            return self._planned(part, parameters, settings, run)

        def execute(planned: PlannedQuery) -> str:
            assert run is not None
            run.begin_part()
            part = f"_{next(parts)}"
            return self._executor.execute(planned.program, planned.schema, parameters, run, part)

        return Host(plan, execute, run, sql, parameters, told)

    def _telling(
        self,
        made: Made,
        parameters: Mapping[str, Any],
        settings: Settings,
        run: Run | None,
        *,
        announce: bool,
    ) -> Callable[[Use], None] | None:
        """Return what is told of each use before it asks: for EXPLAIN and for budgets, if any."""
        if not announce and (run is None or not run.budget.limits):
            return None
        accounts = Accounts(self._raw, self._engine, settings, parameters)
        estimator = Estimator(self._raw, self._engine, settings, parameters)

        def told(use: Use) -> None:
            if announce:
                estimates = tuple(estimator.stages(planned) for planned, _ in use.questions)
                if not use.counted:
                    estimates = tuple(dict.fromkeys(e, StageEstimate()) for e in estimates)
                made.uses.append(UseEstimate(use, estimates))
            for planned, certain in use.questions:
                if run is not None and use.counted and certain:
                    accounts.refuse_beyond(run, planned)

        return told

    @contextmanager
    def _running(self, sql: str, settings: Settings) -> Iterator[Run]:
        reads_stored = self.mentions_stored(sql)
        run = self._run = self._engine.begin(settings, sql)
        run.reads_stored = reads_stored
        started = time.monotonic()
        try:
            with (
                ended_by_keyboard(run.interrupt),
                in_our_words(self._engine.functions),
                shown_in(sql),
            ):
                yield run
        except BaseException as error:
            self._run = None
            self._engine.end(run, time.monotonic() - started, error)
            raise
        self._run = None
        self._engine.end(run, time.monotonic() - started)
        log_missing_answers(run.stats)
