"""Random statements under random budgets: none spends more, none pays twice, no wrong row.

Each run draws a statement, a table, a budget (of calls or tokens, of the statement or the
connection), what happens when it is reached, a number of calls in flight, latencies and
faults. It is judged on the calls that the model saw:

- calls: never more than the budget; tokens: never more than the calls in flight beyond it;
- an error is `BudgetExceeded`; partial rows are those of the unlimited run, or NULL;
- the same statement without the budget then makes only the calls that were not made yet.

    python -m benchmarks.reliability.budgets --runs 1000 --seed 1
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import BudgetExceeded, ServerFailed
from quackllm.testing import FakeProvider, Fault

STATEMENTS = (
    "SELECT i, LLM('x', v) AS a FROM t",
    "SELECT i, LLM_FILTER('x', v) AS a FROM t",
    "SELECT i, true AS a FROM t WHERE LLM_FILTER('x', v)",
    "SELECT i, true AS a FROM t WHERE LLM_FILTER('x', v) AND LLM_FILTER('y', w)",
    "SELECT i, LLM('z', v) AS a FROM t WHERE LLM_FILTER('x', v)",
    "SELECT i, LLM_FILTER('x', v) AS a FROM t WHERE i % 3 = 0 OR LLM_FILTER('y', w)",
    "SELECT i, CASE WHEN LLM_FILTER('x', w) THEN LLM('z', v) END AS a FROM t",
    "SELECT i, list_transform([v], x -> LLM('z', x))[1] AS a FROM t",
)
"""Of each row `i` and an answer `a`, so that rows of two runs can be compared."""

LIMITED = "SELECT i FROM t WHERE LLM_FILTER('x', v) LIMIT 5"
"""Stops early: which of the rows that pass are given is free."""


@dataclass(frozen=True)
class Run:
    """One random run, and what it spent.

    scope: '' for a budget of the statement, 'connection_' for one of the connection.
    """

    seed: int
    statement: str
    rows: int
    unit: str
    scope: str
    budget: int
    policy: str
    concurrency: int
    calls: int
    tokens: int
    ended: str


def random_run(seed: int) -> Run:
    """Do one run. Raises `AssertionError` where a budget does not hold."""
    draw = random.Random(seed)
    statement = draw.choice([*STATEMENTS, LIMITED])
    rows, concurrency = draw.choice([1, 20, 100, 400]), draw.choice([1, 3, 16, 64])
    unit, scope = draw.choice(["calls", "calls", "tokens"]), draw.choice(["", "connection_"])
    budget = draw.randrange(rows + 10) * (40 if unit == "tokens" else 1)
    policy = draw.choice(["error", "partial"])
    faulty = draw.random() < 0.3
    faults = [Fault(error=ServerFailed, rate=0.2)] if faulty else []
    fake = FakeProvider(seed=seed, faults=faults, latency=draw.choice([0, 0, 0.0005]), keep=100_000)
    with quackllm.connect(provider=fake, progress=False, concurrency=concurrency) as con:
        con.execute(
            "CREATE TABLE t AS SELECT i, 'row ' || (i * 7919) % 1000 AS v, 'group ' || i % 37 AS w "
            f"FROM range({rows}) r(i)"
        )
        con.execute(f"SET llm_{scope}max_{unit} = {budget}")
        con.execute(f"SET llm_on_budget = '{policy}'")
        partial, ended = _limited(con, statement)
        calls, tokens = fake.calls, int(con.llm_engine.spent.tokens)
        run = Run(
            seed, statement, rows, unit, scope, budget, policy, concurrency, calls, tokens, ended
        )
        _judge(run, fake)
        con.execute(f"RESET llm_{scope}max_{unit}")
        whole = con.execute(statement).fetchall()
        if not faulty:
            asked = [(request.instruction, request.fields) for request in fake.requests]
            assert len(asked) == len(set(asked)), f"something was paid twice: {run}"
        if partial is not None and statement != LIMITED:
            _compare(run, partial, dict(whole), faulty)
    return run


def _limited(con: Connection, statement: str) -> tuple[list[Any] | None, str]:
    try:
        rows = con.execute(statement).fetchall()
    except BudgetExceeded as error:
        return None, "refused" if "not begun" in str(error) else "stopped"
    return rows, "partial" if con.llm_engine.history[-1].undecided else "whole"


def _judge(run: Run, fake: FakeProvider) -> None:
    if run.unit == "calls":
        assert run.calls <= run.budget, f"more calls than the budget: {run}"
    else:
        # One call of these statements takes fewer than 200 tokens.
        assert run.tokens <= run.budget + 200 * run.concurrency, f"more tokens: {run}"
    assert fake.most_in_flight <= run.concurrency
    if run.ended == "refused":
        assert run.calls == 0 or " AND " in run.statement, f"refused after calls: {run}"
    if run.policy == "partial":
        assert run.ended in ("partial", "whole"), f"partial, and yet an error: {run}"


def _compare(run: Run, partial: list[Any], whole: dict[int, Any], faulty: bool) -> None:
    """Every partial row is one of the whole answer, or NULL where the budget left it out."""
    for row, answer in partial:
        if answer is None:
            continue
        assert row in whole or faulty, f"row {row} is not in the answer: {run}"
        assert whole.get(row, answer) in (answer, None), f"row {row} is wrong: {run}"


def main() -> None:
    """Do the runs and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("quackllm").setLevel(logging.ERROR)
    started = time.monotonic()
    runs = [random_run(options.seed + number) for number in range(options.runs)]
    ended = Counter(run.ended for run in runs)
    over = [run.calls - run.budget for run in runs if run.unit == "calls"]
    print(f"{len(runs)} runs in {time.monotonic() - started:.0f} s: {dict(ended)}")
    print(f"calls beyond the budget, at most: {max(0, *over)}")


if __name__ == "__main__":
    main()
