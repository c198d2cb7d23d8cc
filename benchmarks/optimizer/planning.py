"""Measure how long statements take to plan, phase by phase.

    python -m benchmarks.optimizer.planning [--rounds 20]

Planning calls no model and reads no row: it parses, asks DuckDB to bind, runs the rules
and writes the program down. Times are those of the processor, which other work on the
machine disturbs least: of each phase the smallest of the rounds, of the whole also the
median and the time on the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps

import duckdb

from quackllm.engine.binder import Binder, name_items
from quackllm.engine.catalog import DuckCatalog, DuckDBFacts, Schema
from quackllm.engine.engine import Engine
from quackllm.engine.planner import Planner
from quackllm.engine.reading import same_reading
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.settings import Settings
from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.long_lists import fold_long_lists, parse_folded, unfold
from quackllm.optimizer.lower import bindable, lower
from quackllm.optimizer.naive import BINDING, naive_text
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules import RULES, Rule
from quackllm.optimizer.sql import join_at_select, text
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Call
from quackllm.udfs.registry import Functions

RUN = "1"
"""Number of the statement that is planned."""

IN_DUCKDB = "of all this, in DuckDB's binder"


@dataclass(frozen=True)
class Planned:
    """A statement to plan, and the tables that it reads. most: milliseconds it may take."""

    name: str
    tables: str
    sql: str
    most: float | None = None


def tiny() -> Planned:
    """One filter on one table."""
    tables = "CREATE TABLE x AS SELECT j AS id, 'text ' || j AS body FROM range(100) r(j)"
    return Planned("one filter", tables, "SELECT id FROM x WHERE LLM_FILTER('good?', body)")


def five_joins() -> Planned:
    """Six tables and four calls: in the select list, in WHERE, and under OR."""
    tables = ";".join(
        f"CREATE TABLE t{i} AS SELECT j AS id, j % 7 AS k{i}, 'text ' || j AS body{i}, "
        f"j % 5 AS n{i} FROM range(100) r(j)"
        for i in range(6)
    )
    sql = (
        "SELECT t0.body0, LLM('Summarise', t1.body1, t2.body2) AS s, "
        "LLM_SCORE('how good', t3.body3) AS score FROM t0 JOIN t1 ON t0.id = t1.id "
        "JOIN t2 ON t1.id = t2.id LEFT JOIN t3 ON t2.k2 = t3.k3 JOIN t4 ON t4.id = t0.id "
        "JOIN t5 ON t5.id = t4.id WHERE t0.n0 > 2 AND LLM_FILTER('good?', t4.body4) "
        "AND (t5.n5 = 1 OR LLM_FILTER('bad?', t5.body5)) ORDER BY t0.id"
    )
    return Planned("5 joins, 4 calls", tables, sql, most=20)


def chained_ctes(ctes: int = 20, columns: int = 100) -> Planned:
    """CTEs that each pass a wide table on, with a call in every seventh."""
    parts = ["w0 AS (SELECT * FROM wide WHERE LLM_FILTER('good?', c0))"]
    for i in range(1, ctes):
        label = f", LLM_CLASSIFY(c{i}, ['a', 'b']) AS l{i}" if i % 7 == 0 else ""
        parts.append(f"w{i} AS (SELECT *{label} FROM w{i - 1} WHERE c{i} <> 'x')")
    sql = f"WITH {', '.join(parts)} SELECT * FROM w{ctes - 1} WHERE LLM_FILTER('bad?', c1)"
    return Planned(f"{columns} columns, {ctes} CTEs", _wide(columns), sql, most=100)


def listed_ctes(ctes: int = 20, columns: int = 100) -> Planned:
    """The same with every column written out in every CTE: 11 kB of text."""
    names = ", ".join(f"c{i}" for i in range(columns))
    parts = [f"w0 AS (SELECT id, {names} FROM wide WHERE LLM_FILTER('good?', c0))"]
    parts.extend(
        f"w{i} AS (SELECT id, {names} FROM w{i - 1} WHERE c{i} <> 'x')" for i in range(1, ctes)
    )
    sql = f"WITH {', '.join(parts)} SELECT {names}, LLM('s', c2) AS s FROM w{ctes - 1}"
    return Planned("the same, columns written out", _wide(columns), sql)


def long_in(literals: int = 128_000) -> Planned:
    """One filter behind an IN that a tool wrote: a megabyte."""
    many = ", ".join(str(7 * i) for i in range(literals))
    return Planned(f"IN of {literals:,}", tiny().tables, f"{tiny().sql} AND id IN ({many})")


def long_values(rows: int = 16_000) -> Planned:
    """One filter over rows that a tool wrote: half a megabyte."""
    written = ", ".join(f"({i}, 'text number {i}')" for i in range(rows))
    sql = f"SELECT a FROM (VALUES {written}) v(a, b) WHERE LLM_FILTER('good?', b)"
    return Planned(f"VALUES of {rows:,}", tiny().tables, sql)


def _wide(columns: int) -> str:
    made = ", ".join(f"'v' || j AS c{i}" for i in range(columns))
    return f"CREATE TABLE wide AS SELECT j AS id, {made} FROM range(50) r(j)"


class Clock:
    """Seconds of each phase, added up over one round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Count the time of a block for a phase."""
        started = time.process_time()
        yield
        self.seconds[phase] += time.process_time() - started

    def rule(self, rule: Rule) -> Rule:
        """Return the rule, under its own name, with its time counted."""

        @wraps(rule)
        def counted(plan: Plan, catalog: Catalog) -> Plan:
            with self.of(f"rule {rule.__name__}"):
                return rule(plan, catalog)

        return counted


class CountingCatalog(DuckCatalog):
    """Counts the time of DuckDB's binder, which is part of the phases that ask it."""

    clock: Clock

    def schema(self, sql: str) -> Schema | None:
        """Ask, and count."""
        with self.clock.of(IN_DUCKDB):
            return super().schema(sql)


class Bench:
    """One statement, planned again and again, as the engine's planner does it."""

    def __init__(self, planned: Planned) -> None:
        self._sql = planned.sql
        self._functions = Functions.load()
        self._facts = DuckDBFacts()
        self._engine = Engine(provider=FakeProvider())
        self._connection = duckdb.connect()
        register_scalar_function(self._connection, self._engine, Settings)
        self._connection.execute(planned.tables)
        self._dimensions = partial(self._engine.dimensions, Settings())
        self._planner = Planner(
            self._connection,
            self._functions,
            self._facts,
            self._engine.stored,
            self._dimensions,
            self._engine.table_functions,
        )

    def whole(self) -> tuple[float, float]:
        """Plan once by the planner itself; return seconds of the processor and on the clock."""
        started = time.process_time(), time.perf_counter()
        self._planner.query(self._sql, {}, RUN, frozenset())
        return time.process_time() - started[0], time.perf_counter() - started[1]

    def phases(self) -> dict[str, float]:
        """Plan once, step by step; return the seconds of each phase."""
        clock, calls = Clock(), dict[str, Call]()
        catalog = CountingCatalog(self._connection, self._facts, calls, {})
        catalog.clock = clock
        with clock.of("parse"):
            root, short = parse_folded(self._sql)
        with clock.of("compare with DuckDB's parser"):
            assert same_reading(self._connection, short.sql, text(root))
        with clock.of("bind the calls"):
            unfold(root, short)
            join_at_select(root)
            fold_long_lists(root)
            name_items(root, lambda name: self._functions.get(name) is not None)
            binder = Binder(
                self._functions, catalog.fold, catalog.columns, self._dimensions, self._sql
            )
            root = binder.bind_tree(root, calls)
        with clock.of("describe the statement"):
            schema = catalog.describe(naive_text(root, calls, BINDING))
        plan = Plan(root, calls)
        for rule in map(clock.rule, RULES):
            plan = rule(plan, catalog)
        with clock.of("check the columns"):
            assert catalog.schema(bindable(plan)) == schema
        with clock.of("write the program"):
            lower(plan, RUN)
        return clock.seconds

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()
        self._engine.close()


def report(planned: Planned, rounds: int) -> str:
    """Plan a statement many times; write its times down."""
    bench = Bench(planned)
    try:
        bench.whole()
        bench.phases()
        busy, clock = zip(*(bench.whole() for _ in range(rounds)), strict=True)
        each = [bench.phases() for _ in range(rounds)]
    finally:
        bench.close()
    goal = f", at most {planned.most:.0f} wanted" if planned.most else ""
    lines = [
        f"{planned.name} ({len(planned.sql):,} characters): "
        f"{min(busy) * 1e3:.1f} ms at best, {statistics.median(busy) * 1e3:.1f} ms median, "
        f"{statistics.median(clock) * 1e3:.1f} ms on the clock{goal}"
    ]
    names = sorted({name for one in each for name in one}, key=lambda name: -_best(each, name))
    lines.extend(f"  {_best(each, name):8.2f} ms  {name}" for name in names)
    return "\n".join(lines)


def _best(each: Sequence[dict[str, float]], name: str) -> float:
    return min(one[name] for one in each) * 1e3


def main() -> None:
    """Print the times of every statement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizer.planning")
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    for planned in (tiny(), five_joins(), chained_ctes(), listed_ctes(), long_in(), long_values()):
        print(report(planned, rounds), flush=True)


if __name__ == "__main__":
    main()
