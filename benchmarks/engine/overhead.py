"""What quackllm adds to DuckDB: for statements that are not its own, and per call.

    python -m benchmarks.engine.overhead

Every comparison alternates the two sides in one process and reports medians, so a busy
machine slows both. The model is the instant in-process fake: what is left is our own work.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import duckdb

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider

AGGREGATE = "SELECT g, count(*), sum(i), avg(v) FROM big GROUP BY g"
BIG = (
    "CREATE TABLE big AS SELECT i, i % 7 AS g, random() AS v, "
    "'this is review number ' || (hash(i) % 100000) || repeat(' lorem ipsum', 5) AS body "
    "FROM range(1000000) r(i)"
)


def alternating(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> list[float]:
    """Median seconds of two functions, called in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, function in enumerate((first, second)):
            started = time.perf_counter()
            function()
            seconds[side].append(time.perf_counter() - started)
    return [statistics.median(each) for each in seconds]


def plain_statements(plain: duckdb.DuckDBPyConnection, ours: Connection) -> None:
    """Statements without LLM functions, against plain duckdb."""
    tiny = "SELECT 42"
    base, with_us = alternating(
        lambda: plain.execute(tiny).fetchall(), lambda: ours.execute(tiny).fetchall(), 5000
    )
    print(f"tiny statement: {base * 1e6:.1f} us plain, +{(with_us - base) * 1e6:.1f} us with us")
    base, with_us = alternating(
        lambda: plain.execute(AGGREGATE).fetchall(),
        lambda: ours.execute(AGGREGATE).fetchall(),
        101,
    )
    print(f"1M-row aggregate: {base * 1e3:.2f} ms plain, ratio {with_us / base:.3f}")


def calls(ours: Connection, fake: FakeProvider) -> None:
    """1,000,000 rows with 100,000 distinct argument tuples through LLM_FILTER."""
    started = time.perf_counter()
    ours.execute(
        "SELECT g, count(*) FROM big WHERE LLM_FILTER('good?', body) GROUP BY g"
    ).fetchall()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"1M rows, {fake.calls:,} distinct tuples: {seconds:.2f} s, "
        f"{seconds / fake.calls * 1e6:.0f} us per call, peak {peak:.2f} GiB"
    )


def planning(ours: Connection) -> None:
    """Time to plan: five joins with four calls; a hundred columns with twenty CTEs."""
    ours.execute("CREATE TABLE wide AS SELECT " + ", ".join(f"{i} AS c{i}" for i in range(100)))
    for i in range(6):
        ours.execute(f"CREATE TABLE j{i} AS SELECT {i} AS k, 'text {i}' AS t{i}")
    joins = "j0 " + " ".join(f"JOIN j{i} USING (k)" for i in range(1, 6))
    five = (
        f"SELECT LLM('a', t1), LLM_SCORE('b', t2) FROM {joins} "
        "WHERE LLM_FILTER('c', t0, t3) AND LLM_CLASSIFY(t4, ['x', 'y']) = 'x'"
    )
    ctes = ", ".join(
        f"c{i} AS (SELECT * FROM {'wide' if i == 0 else f'c{i - 1}'} WHERE c{i} >= 0)"
        for i in range(20)
    )
    many = f"WITH {ctes} SELECT *, LLM('x', c1, c2) AS y FROM c19 WHERE LLM_FILTER('z', c3)"
    for name, sql in (("5 joins, 4 calls", five), ("100 columns, 20 CTEs", many)):
        session, settings = ours._session, ours.llm_settings
        seconds = []
        for _ in range(11):
            started = time.perf_counter()
            session._planned(sql, {}, settings, None)
            seconds.append(time.perf_counter() - started)
        print(f"planning, {name}: {statistics.median(seconds) * 1e3:.1f} ms")


def main() -> None:
    """Run all comparisons."""
    fake = FakeProvider(answer=lambda request: "true", keep=0)
    plain = duckdb.connect()
    plain.execute(BIG)
    with quackllm.connect(provider=fake, progress=False) as ours:
        ours.execute(BIG)
        plain_statements(plain, ours)
        calls(ours, fake)
        planning(ours)


if __name__ == "__main__":
    main()
