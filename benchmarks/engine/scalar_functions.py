"""The staged plan against two scalar functions, on a million rows and the instant fake.

    python -m benchmarks.engine.scalar_functions [--rows 1000000] [--distinct 100000]

staged: the statement as quackllm plans it. our function: the same, its call left to our own
registered function, which answers 2,048 rows at a time and remembers answers. plain function:
a Python function registered with duckdb as demos do it, which makes the same provider call
for every row, here without the cost of a client or a connection. Printed are calls, seconds of
the clock and of the processor.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import duckdb

import quackllm
from quackllm.engine.providers.base import Provider, Reply, Request
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Choice

QUESTION = "Is it good?"
REQUEST = Request(f"Is this true?\n{QUESTION}", "", Choice(("true", "false")), 0.0, 16)


@dataclass(frozen=True)
class Line:
    """What one side took, and the rows that it found."""

    name: str
    calls: int
    seconds: float
    cpu_seconds: float
    found: int


def table(rows: int, distinct: int) -> str:
    """SQL of the table: texts of 95 characters, as many different ones as are asked for."""
    return (
        f"CREATE TABLE big AS SELECT 'this is review number ' || (hash(i) % {distinct}) "
        f"|| repeat(' lorem ipsum', 6) AS body FROM range({rows}) r(i)"
    )


def fake() -> FakeProvider:
    """A provider that answers at once."""
    return FakeProvider(answer=lambda request: "true", keep=0)


def ours(name: str, tables: str, disabled: str) -> Line:
    """Run the statement through quackllm, without some rules."""
    provider = fake()
    with quackllm.connect(provider=provider, progress=False, disabled_rules=disabled) as con:
        con.execute(tables)
        sql = f"SELECT count(*) FROM big WHERE LLM_FILTER('{QUESTION}', body)"
        return timed(name, provider, lambda: con.execute(sql).fetchall())


def plain(tables: str) -> Line:
    """Run it in duckdb, with a function that asks the provider about its one row."""
    provider = fake()
    with duckdb.connect() as con:
        con.execute("SET enable_progress_bar = false")
        con.execute(tables)
        con.create_function("ask", asking(provider), ["VARCHAR"], "BOOLEAN")
        sql = "SELECT count(*) FROM big WHERE ask(body)"
        return timed("plain function", provider, lambda: con.execute(sql).fetchall())


def asking(provider: Provider) -> Callable[[str], bool]:
    """Make a function of one row, as it is written without a library."""

    def ask(body: str) -> bool:
        request = replace(REQUEST, fields=json.dumps({"body": body}))
        return at_once(provider.complete(request)).text == "true"

    return ask


def at_once(reply: Coroutine[Any, Any, Reply]) -> Reply:
    """Take the result of a coroutine that does not wait: no loop, no thread, no cost."""
    try:
        reply.send(None)
    except StopIteration as finished:
        found: Reply = finished.value
        return found
    raise AssertionError("the fake waits")


def timed(name: str, provider: FakeProvider, run: Callable[[], list[tuple[int]]]) -> Line:
    """Time a query of one number."""
    clock, cpu = time.perf_counter(), time.process_time()
    [(found,)] = run()
    return Line(name, provider.calls, time.perf_counter() - clock, time.process_time() - cpu, found)


def main(arguments: list[str] | None = None) -> int:
    """Run all three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--distinct", type=int, default=100_000)
    given = parser.parse_args(arguments)
    tables = table(given.rows, given.distinct)
    lines = [
        ours("staged", tables, ""),
        ours("our function", tables, "stage_calls"),
        plain(tables),
    ]
    print("| plan | calls | seconds | CPU seconds | CPU, staged = 1 |\n|---|--:|--:|--:|--:|")
    for line in lines:
        print(
            f"| {line.name} | {line.calls:,} | {line.seconds:.1f} | {line.cpu_seconds:.1f} "
            f"| {line.cpu_seconds / lines[0].cpu_seconds:.1f} |"
        )
    assert len({line.found for line in lines}) == 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
