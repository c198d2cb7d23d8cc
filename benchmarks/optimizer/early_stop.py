"""Calls until LIMIT has its rows, against an oracle plan that knows the selectivities.

    python -m benchmarks.optimizer.early_stop [--seeds 30]

The oracle plan knows which share of the rows each predicate accepts, but not which rows.
It takes the order of predicates that is expected to cost the fewest tokens, asks row by
row, and stops at the last row wanted: a predicate is asked of the rows wanted divided by
the shares of itself and of those behind it. Ours knows no share beforehand. Calls are means
over the seeds, each of which draws other answers; `most` is the largest of ours. The model
is a fake whose answers depend on the question and the seed alone.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod
from statistics import mean

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.testing import FakeProvider
from quackllm.testing.rules import question_hash

TABLE = (
    "CREATE TABLE films AS SELECT i, 'review ' || i || repeat(' a long review', 50) AS review, "
    "'title ' || i AS title, 'name ' || i AS name FROM range(4000) r(i)"
)


@dataclass(frozen=True)
class Predicate:
    """A filter over a column, the share of rows that it accepts, the tokens of a call."""

    column: str
    share: float
    tokens: int

    @property
    def sql(self) -> str:
        """The call."""
        return f"LLM_FILTER('Good {self.column}?', {self.column})"

    @property
    def shown(self) -> str:
        """The predicate in a table."""
        return f"{self.column} {self.share:.0%}"


Case = tuple[Predicate, ...]
"""Predicates in the order in which the statement has them."""


def review(share: float) -> Predicate:
    """The expensive question."""
    return Predicate("review", share, 220)


def title(share: float) -> Predicate:
    """A cheap question."""
    return Predicate("title", share, 30)


def name(share: float) -> Predicate:
    """Another cheap question."""
    return Predicate("name", share, 30)


CASES: Sequence[tuple[int, Case]] = (
    (10, (title(0.1),)),
    (10, (review(0.9), title(0.1))),
    (10, (title(0.9), review(0.1))),
    (10, (review(0.5), title(0.5))),
    (10, (review(0.3), title(0.2))),
    (10, (title(0.1), name(0.9))),
    (10, (title(0.9), name(0.1))),
    (1, (review(0.9), title(0.1))),
    (100, (review(0.9), title(0.1))),
)
"""Rows wanted, and the predicates."""


def ours(limit: int, case: Case, seed: int) -> Counter[str]:
    """Calls of our plan, by column."""
    asked: Counter[str] = Counter()

    def answer(request: Request) -> str:
        predicate = next(p for p in case if f"Good {p.column}?" in request.instruction)
        asked[predicate.column] += 1
        drawn = question_hash(request, f"seed {seed}") / 2**64
        return "true" if drawn < predicate.share else "false"

    with quackllm.connect(provider=FakeProvider(answer=answer, keep=0), progress=False) as con:
        con.execute(TABLE)
        where = " AND ".join(predicate.sql for predicate in case)
        found = con.execute(f"SELECT i FROM films WHERE {where} LIMIT {limit}").fetchall()
    assert len(found) == limit
    return asked


def oracle(limit: int, case: Case) -> dict[str, float]:
    """Expected calls of the oracle plan, by column."""

    def calls(order: Case) -> dict[str, float]:
        shares = [predicate.share for predicate in order]
        return {p.column: limit / prod(shares[place:]) for place, p in enumerate(order)}

    def tokens(order: Case) -> float:
        asked = calls(order)
        return sum(asked[predicate.column] * predicate.tokens for predicate in order)

    return calls(min(permutations(case), key=tokens))


def lines(seeds: int) -> Iterator[str]:
    """Measure every case: lines of a Markdown table for each predicate, and for all tokens."""
    for limit, case in CASES:
        runs = [ours(limit, case, seed) for seed in range(seeds)]
        fewest = oracle(limit, case)
        statement = f"{' AND '.join(p.shown for p in case)}, LIMIT {limit}"
        for predicate in case:
            asked = [float(run[predicate.column]) for run in runs]
            yield _line(statement, predicate.shown, asked, fewest[predicate.column])
        if len(case) > 1:
            spent = [float(sum(run[p.column] * p.tokens for p in case)) for run in runs]
            least = sum(fewest[p.column] * p.tokens for p in case)
            yield _line(statement, "(tokens)", spent, least)


def _line(statement: str, of: str, ours: list[float], oracle: float) -> str:
    return (
        f"| {statement} | {of} | {mean(ours):,.1f} | {max(ours):,.0f} "
        f"| {oracle:,.1f} | {mean(ours) / oracle:.2f} |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    given = parser.parse_args(arguments)
    print("| WHERE | predicate | our calls | most | oracle calls | ours / oracle |")
    print("|---|---|--:|--:|--:|--:|")
    for line in lines(given.seeds):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
