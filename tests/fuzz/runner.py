"""Runs one case through the planner, and naively in plain DuckDB."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import duckdb
import pyarrow as pa
from sqlglot import exp
from sqlglot.errors import SqlglotError

import quackllm
from quackllm.engine.binder import name_arguments
from quackllm.engine.cache import MemoryCache
from quackllm.engine.definitions import defined_query
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Request
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.session import Session
from quackllm.engine.settings import Settings
from quackllm.engine.statement import inner_query, split
from quackllm.errors import ServerFailed
from quackllm.optimizer.sql import conjuncts, literal, parse, quote, text
from quackllm.testing import FakeProvider, Fault
from quackllm.udfs.base import Call
from tests.fuzz.cases import QUERY_WORDS, Case, TableUse

Row = tuple[Any, ...]

ASKED = quote("asked by")
"""The column of a table that was made of a table function which says what it was asked."""

CRASHES = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
"""What a defect raises; reported with its statement like a wrong row."""


@dataclass(frozen=True)
class Result:
    """What a statement gave: rows, names and types, or an error; and what it asked.

    left_out: the planner's warning that a rule broke its contract and was left out.
    """

    rows: tuple[Row, ...] = ()
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    error: BaseException | None = None
    questions: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    rows_evaluated: int = 0
    left_out: str = ""

    @property
    def calls(self) -> int:
        """Calls of the model."""
        return self.questions.total()


class _Models:
    """A fake for each model that calls name, whose answers differ from those of the others."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._faults = faults
        self._fakes: dict[str | None, FakeProvider] = {}

    def provider(self, settings: Settings, call: Call, *_: object, **named: object) -> FakeProvider:
        """Stand for `Engine.provider`."""
        if call.model not in self._fakes:
            self._fakes[call.model] = FakeProvider(
                seed=int.from_bytes((call.model or "").encode()),
                model=call.model or "fake",
                faults=self._faults,
                keep=100_000,
            )
        return self._fakes[call.model]

    def questions(self) -> Counter[tuple[Any, ...]]:
        """What was asked since the last `forget`."""
        return Counter(
            (fake.model, *_question(request))
            for fake in self._fakes.values()
            for request in fake.requests
        )

    def forget(self) -> None:
        """Begin to count anew."""
        for fake in self._fakes.values():
            fake.requests.clear()


class _Counting:
    """Stands for a connection while a function is registered, and counts its rows."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.rows = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def create_function(
        self, name: str, function: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """Register the function, counting the rows that would each be a call."""

        def counted(*columns: pa.ChunkedArray) -> Any:
            _, _, *fields = (column.to_pylist() for column in columns)
            if fields:
                self.rows += sum(any(v not in (None, "null") for v in row) for row in _rows(fields))
            else:
                self.rows += max(len(column) for column in columns)
            return function(*columns)

        self._connection.create_function(name, counted, *args, **kw)


def _rows(fields: list[list[Any]]) -> Any:
    """Rows of columns of which some are constants, and so one row long."""
    length = max(map(len, fields))
    return zip(*(f if len(f) == length else f * length for f in fields), strict=True)


class Runner:
    """Two connections that live through many cases. Each case makes its own tables."""

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._models = {"planned": _Models(), "naive": _Models()}
        self._planned = quackllm.connect(provider=FakeProvider(), progress=False, cache=False)
        self._naive = duckdb.connect()
        self._engine = Engine(provider=FakeProvider())
        self._counting = _Counting(self._naive)
        register_scalar_function(
            cast(duckdb.DuckDBPyConnection, self._counting),
            self._engine,
            lambda: Settings(cache=True),
        )
        self._session = Session(self._naive, self._engine)
        self._used: dict[str, TableUse] = {}
        self._made: dict[str, Result] = {}

    def renew(self) -> None:
        """Begin with new connections, after an error that a database does not survive."""
        self.close()
        self._open()

    def prepare(self, case: Case) -> None:
        """Make the tables on both sides, and let questions fail as the case says."""
        fault_rate = case.fault_rate
        faults = (Fault(error=ServerFailed, rate=fault_rate),) if fault_rate else ()
        for name, engine in (("planned", self._planned.llm_engine), ("naive", self._engine)):
            self._models[name] = _Models(faults)
            engine.provider = self._models[name].provider  # type: ignore[method-assign]
        for connection in (self._planned, self._naive):
            connection.execute(f"SET threads = {case.threads}")
            connection.execute(case.ddl)
        self._used = {use.text: use for use in case.table_functions}
        self._made = {use.text: self._make(use) for use in case.table_functions}

    def _make(self, use: TableUse) -> Result:
        """Make a table of what a table function gives, for the naive side to read.

        Of one that is asked by a column, what it gives for each of the values, one by one.
        """
        models = self._models["planned"]
        models.forget()
        queries = [f"SELECT NULL::VARCHAR AS {ASKED}, * FROM {use.text}"]
        if use.question:
            values = {value for (value,) in self._naive.execute(use.asked).fetchall()}
            literals = ["NULL" if value is None else literal(value) for value in values]
            queries = [
                f"SELECT {each}::VARCHAR AS {ASKED}, * FROM "
                + use.text.replace(f", {use.question},", f", {each},")
                for each in literals
            ]
        try:
            found = [self._planned.sql(query).to_arrow_table() for query in queries]
        except duckdb.Error as error:
            return Result(error=error)
        self._naive.register("found", pa.concat_tables(found, promote_options="permissive"))
        self._naive.execute(f"CREATE OR REPLACE TABLE {_table_of(use.text)} AS FROM found")
        return Result(questions=models.questions())

    def setup(self, sql: str) -> None:
        """Run a statement on both sides. Raises what the naive side raises."""
        self._naive.execute(self.naive_text(sql))
        self._planned.execute(sql)

    def planned(self, case: Case) -> Result:
        """Run a case's statement through the planner."""
        self._planned.execute(f"SET llm_disabled_rules = '{case.disabled}'")
        for name, value in case.settings:
            self._planned.execute(f"SET {name} = {value}")
        try:
            return self._run(case)
        finally:
            for name, _ in case.settings:
                self._planned.execute(f"RESET {name}")

    def _run(self, case: Case) -> Result:
        sql, values = case.prepared or (case.sql, ())
        effect = case.effect
        models = self._models["planned"]
        models.forget()
        with _rules_left_out() as warnings:
            try:
                cursor = self._planned.execute(sql, list(values) or None)
                rows, described = cursor.fetchall(), cursor.description
                if effect is not None:
                    cursor = self._planned.execute(effect)
                    rows, described = cursor.fetchall(), cursor.description
            except (duckdb.Error, *CRASHES) as error:
                return Result(error=error, questions=models.questions())
        result = _result(rows, described, models.questions())
        return replace(result, left_out=next(iter(warnings), ""))

    def as_written(self, sql: str, effect: str | None = None) -> Result:
        """Run a statement as `naive` does, in the order in which it is written.

        DuckDB's optimizer is off: no condition is moved, no constant folded, no join turned.
        """
        self._naive.execute("PRAGMA disable_optimizer")
        try:
            return self.naive(sql, effect)
        finally:
            self._naive.execute("PRAGMA enable_optimizer")

    def in_query_order(self, sql: str, effect: str | None = None) -> Result:
        """Run a statement as `naive` does, its conditions one after another as they are written.

        DuckDB picks an order of its own for the operands of AND, with its optimizer off too,
        which CASE forbids. Of WHERE, HAVING and QUALIFY, and the bounds of BETWEEN in ON, where
        more would make it no join any more.
        """
        try:
            tree = parse(self.naive_text(sql))
        except SqlglotError as error:
            return Result(error=error)
        for clause in tree.find_all(exp.Where, exp.Having, exp.Qualify):
            clause.set("this", _one_after_another(conjuncts(clause.this)))
        for join in tree.find_all(exp.Join):
            for part in conjuncts(join.args.get("on")):
                if isinstance(part, exp.Between):
                    low = exp.GTE(this=part.this.copy(), expression=part.args["low"])
                    high = exp.LTE(this=part.this.copy(), expression=part.args["high"])
                    part.replace(_one_after_another([low, high]))
        return self.naive(sql, effect, written=text(tree))

    def naive(
        self, sql: str, effect: str | None = None, without: str = "", written: str | None = None
    ) -> Result:
        """Run a statement in plain DuckDB, its calls by the registered function.

        without: optimizers of DuckDB that are left out, separated by commas.
        written: the statement with its calls as that function, if it is not to be made.
        """
        self._naive.execute(f"SET disabled_optimizers = '{without}'")
        self._engine.cache = MemoryCache()
        models = self._models["naive"]
        models.forget()
        self._counting.rows = 0
        for made in self._made.values():
            if made.error is not None:
                return made
        changes = not sql.startswith(QUERY_WORDS)
        try:
            if changes:  # to be undone, so that the statement can run again
                self._naive.execute("BEGIN")
            cursor = self._naive.execute(self.naive_text(sql) if written is None else written)
            rows, described = cursor.fetchall(), cursor.description
            if effect is not None:
                cursor = self._naive.execute(effect)
                rows, described = cursor.fetchall(), cursor.description
            if changes:
                self._naive.execute("ROLLBACK")
        except duckdb.Error as error:
            if changes and not isinstance(error, duckdb.FatalException):
                self._naive.execute("ROLLBACK")
            return Result(error=error, questions=models.questions())
        asked = models.questions()
        for made in self._made.values():
            asked.update(made.questions)
        before = sum(made.calls for made in self._made.values())
        return _result(rows, described, asked, self._counting.rows + before)

    def naive_text(self, sql: str) -> str:
        """Write the calls as the registered function.

        A query is bound as a whole, as t.* needs, also that of a view or a table; of other
        statements only the text of the calls is changed.
        """
        sql = self._with_tables(sql) if self._made else sql
        if sql.startswith(QUERY_WORDS):
            return self._session.naive_query(sql)
        [statement] = split(sql)
        span = defined_query(statement) or inner_query(statement)
        if span is None:
            return self._session.naive_expression(sql)
        start, end = span
        text = sql[:start] + self._session.naive_query(sql[start:end]) + sql[end:]
        return self._session.naive_expression(text)  # calls beside the query

    def _with_tables(self, sql: str) -> str:
        """Put the tables that were made in the place of table functions.

        Arguments of calls that hold one keep the names that they have by their text.
        """
        tree = parse(sql)
        names = self._engine.table_functions.names
        name_arguments(tree, self._engine.functions, lambda name: name.lower() in names)
        for source in tree.find_all(exp.Table, exp.Lateral):
            called = source.this if isinstance(source.this, exp.Anonymous) else None
            use = None if called is None else self._used.get(text(called))
            if called is not None and use is not None:
                called.replace(exp.Var(this=_rows_of(use, isinstance(source, exp.Table))))
        return text(tree)

    def explained(self, sql: str) -> list[dict[str, Any]]:
        """What EXPLAIN (FORMAT JSON) says of a query, one entry per stage."""
        row = self._planned.execute("EXPLAIN (FORMAT JSON) " + sql).fetchone()
        assert row is not None
        plan = json.loads(row[1])
        if isinstance(plan, list):  # DuckDB's own, of a statement that lost its calls
            return []
        entries: list[dict[str, Any]] = plan["stages"]
        return entries

    def close(self) -> None:
        """Close both sides."""
        self._planned.close()
        self._engine.close()
        self._naive.close()


@contextmanager
def _rules_left_out() -> Iterator[list[str]]:
    """Collect the planner's warnings about its own rules; others are not shown."""
    logger, found = logging.getLogger("quackllm"), _Collector()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(found)
    try:
        yield found.messages
    finally:
        logger.removeHandler(found)
        logger.propagate = propagate
        logger.setLevel(level)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("Optimizer rule"):
            self.messages.append(message)


def _result(
    rows: list[Row], described: Any, questions: Counter[tuple[Any, ...]], evaluated: int = 0
) -> Result:
    return Result(
        rows=tuple(rows),
        names=tuple(str(column[0]) for column in described),
        types=tuple(str(column[1]) for column in described),
        questions=questions,
        rows_evaluated=evaluated,
    )


def _one_after_another(conditions: Sequence[exp.Expr]) -> exp.Expr:
    """Write conditions so that each is evaluated only for rows that those before it accept."""
    *earlier, condition = (part.copy() for part in conditions)
    for part in reversed(earlier):
        branch = exp.If(this=part, true=condition)
        condition = exp.Case(ifs=[branch], default=exp.false())
    return condition


def _rows_of(use: TableUse, says_lateral: bool) -> str:
    """Write the rows of a table function, read from the table that was made of it."""
    rows = f"SELECT * EXCLUDE ({ASKED}) FROM {_table_of(use.text)}"
    if not use.question:
        return f"({rows})"
    found = f"({rows} WHERE {ASKED} IS NOT DISTINCT FROM {use.question})"
    return f"LATERAL {found}" if says_lateral else found


def _table_of(table_function: str) -> str:
    """Name the table that the naive side has in the place of a table function."""
    return quote(f"made by {table_function}")


def _question(request: Request) -> tuple[Any, ...]:
    fields = json.dumps(json.loads(request.fields), sort_keys=True)
    return (
        request.instruction,
        fields,
        request.answer,
        request.temperature,
        request.max_tokens,
    )
