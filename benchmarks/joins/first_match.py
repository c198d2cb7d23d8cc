"""Calls until each row of a semi join has its first match, ours and those of DuckDB's own plan.

`python -m benchmarks.joins.first_match` prints them for several shares of pairs that match. The
model answers at random, the same for both. DuckDB's plan calls a registered function row by row,
and remembers its answers. Then it times a million pairs, whose answers take no time.
"""

from __future__ import annotations

import time

import duckdb

import quackllm
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Request
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.session import Session
from quackllm.engine.settings import Settings
from quackllm.testing import FakeProvider
from quackllm.testing.rules import question_hash

LEFT, GROUPS, RUNS = 60, 3, 6
MOST = 1.05
"""Our calls, at most, as a part of those of DuckDB's plan."""
SQL = "SELECT a.k FROM a SEMI JOIN b ON a.g = b.g AND LLM_FILTER('Does {x} match {y}?', a.x, b.y)"


def tables(right: int) -> str:
    """Statements that make a left table, and a right one of so many rows."""
    return (
        f"CREATE TABLE a AS SELECT i AS k, 'left ' || i AS x, i % {GROUPS} AS g "
        f"FROM range({LEFT}) r(i);"
        f"CREATE TABLE b AS SELECT i AS k, 'right ' || i AS y, i % {GROUPS} AS g "
        f"FROM range({right}) r(i)"
    )


def model(share: float, seed: int) -> FakeProvider:
    """A model to which this share of the pairs matches."""

    def answer(request: Request) -> str:
        return "true" if question_hash(request, f"seed {seed}") / 2**64 < share else "false"

    return FakeProvider(answer=answer, keep=1)


def ours(right: int, share: float, seed: int) -> int:
    """Calls of the planned statement."""
    fake = model(share, seed)
    with quackllm.connect(provider=fake, progress=False, cache=False) as con:
        con.execute(tables(right))
        con.execute(SQL)
    return fake.calls


def timed(rows: int, share: float) -> tuple[int, float]:
    """Calls and seconds of a semi join of so many rows with as many, without an equality."""
    fake = model(share, seed=1)
    with quackllm.connect(provider=fake, progress=False, cache=False) as con:
        con.execute(
            tables(rows) + f"; INSERT INTO a SELECT i, 'l ' || i, 0 FROM range({LEFT}, {rows}) r(i)"
        )
        started = time.perf_counter()
        con.execute(SQL.replace("a.g = b.g AND ", ""))
        return fake.calls, time.perf_counter() - started


def duckdbs(right: int, share: float, seed: int) -> int:
    """Calls of the same statement in plain DuckDB, each call by the registered function."""
    fake = model(share, seed)
    engine = Engine(provider=fake)
    with duckdb.connect() as con:
        register_scalar_function(con, engine, lambda: Settings(cache=True))
        con.execute(tables(right))
        con.execute(Session(con, engine).naive_query(SQL)).fetchall()
    engine.close()
    return fake.calls


def main() -> None:
    """Print a table for the documentation."""
    print("| pairs of a row | share that matches | pairs | our calls | DuckDB's plan |")
    print("|--:|--:|--:|--:|--:|")
    for of_row in (10, 50):
        for share in (0.5, 0.2, 0.1, 0.05, 0.01):
            counts = [
                sum(calls(of_row * GROUPS, share, seed) for seed in range(RUNS))
                for calls in (ours, duckdbs)
            ]
            assert counts[0] <= MOST * counts[1], (of_row, share, counts)
            cells = [f"{n:,}" for n in (LEFT * of_row * RUNS, *counts)]
            print(f"| {of_row} | {share:.0%} | {' | '.join(cells)} |")
    for share in (0.3, 0.01):
        calls, seconds = timed(1_000, share)
        print(f"1,000 x 1,000 rows, {share:.0%} match: {calls:,} calls in {seconds:.1f} s")


if __name__ == "__main__":
    main()
