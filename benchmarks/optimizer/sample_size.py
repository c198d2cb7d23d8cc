"""How many rows to sample for the order of two predicates under LIMIT, simulated.

    python -m benchmarks.optimizer.sample_size [--seeds 300] [--limit 10]

Batches, the choice of the order and Laplace's rule are those of the engine; only the rows and
the answers are drawn here, since thousands of runs are needed to see how often a small sample
chooses the wrong order. Calls and tokens are shown as multiples of what the oracle plan of
`benchmarks.optimizer.early_stop` makes; `wrong` is the share of runs in another order than its.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from benchmarks.optimizer.early_stop import Case, name, oracle, review, title
from quackllm.engine.early_stop import Batches
from quackllm.optimizer.catalog import PredicateStatistics
from quackllm.optimizer.rules.order_predicates import cheapest_order
from quackllm.optimizer.sampling import UNKNOWN_SHARE

ROWS = 4_000
SIZES = (3, 4, 5, 6)
CASES: Sequence[Case] = (
    (title(0.9), name(0.1)),
    (title(0.1), name(0.9)),
    (title(0.7), name(0.3)),
    (title(0.3), name(0.7)),
    (title(0.5), name(0.1)),
    (title(0.1), name(0.5)),
    (review(0.9), title(0.1)),
    (review(0.5), title(0.5)),
)


class Simulated:
    """One statement over rows that all have texts of their own: answers drawn, calls counted."""

    def __init__(self, case: Case, seed: int) -> None:
        draw = random.Random(seed)
        self._case = case
        self._truth = [[draw.random() < p.share for _ in range(ROWS)] for p in case]
        self._known: list[set[int]] = [set() for _ in case]
        self._draw = draw

    @property
    def calls(self) -> list[int]:
        """Calls of each predicate."""
        return [len(known) for known in self._known]

    def _accepted(self, predicate: int, rows: Sequence[int]) -> list[int]:
        self._known[predicate].update(rows)
        return [row for row in rows if self._truth[predicate][row]]

    def learn(self, size: int) -> tuple[int, ...]:
        """Ask a sample; return the order that it suggests."""
        count = len(self._case)
        known = PredicateStatistics(
            tokens=tuple(float(p.tokens) for p in self._case),
            tuples=(float(ROWS),) * count,
            together={(0, 1): ROWS},
            selectivities=(UNKNOWN_SHARE,) * count,
        )
        left = self._draw.sample(range(ROWS), size)
        shares = [UNKNOWN_SHARE] * count
        for at in cheapest_order(known):
            accepted = self._accepted(at, left)
            shares[at] = (len(accepted) + 1) / (len(left) + 2)
            left = accepted
        return cheapest_order(replace(known, selectivities=tuple(shares), sampled=True))

    def search(self, order: Sequence[int], wanted: int) -> None:
        """Ask in batches, one predicate inside the other, until the rows wanted are found."""
        first, second = order
        rows = sorted(range(ROWS), key=lambda row: row not in self._known[first])
        batches, found = Batches([1] * ROWS, wanted), 0
        while found < wanted and not batches.exhausted:
            start, size = batches.following(found)
            passing = self._accepted(first, rows[start : start + size])
            passing.sort(key=lambda row: row not in self._known[second])
            inner, before = Batches([1] * len(passing), wanted - found, least=1), found
            while found < wanted and not inner.exhausted:
                start, size = inner.following(found - before)
                found += len(self._accepted(second, passing[start : start + size]))


def line(case: Case, limit: int, size: int, seeds: int) -> str:
    """Simulate one case with one size of sample: a line of a Markdown table."""
    fewest = oracle(limit, case)
    best = tuple(sorted(range(len(case)), key=lambda at: -fewest[case[at].column]))
    calls, wrong = [], []
    for seed in range(seeds):
        simulated = Simulated(case, seed)
        order = simulated.learn(size)
        simulated.search(order, limit)
        calls.append(simulated.calls)
        wrong.append(order != best)
    means = [mean(run[at] for run in calls) for at in range(len(case))]
    least = sum(fewest[p.column] * p.tokens for p in case)
    tokens = sum(made * p.tokens for made, p in zip(means, case, strict=True)) / least
    ratios = [f"{made / fewest[p.column]:.2f}" for made, p in zip(means, case, strict=True)]
    shown = " AND ".join(p.shown for p in case)
    return f"| {shown} | {size} | {' | '.join(ratios)} | {tokens:.2f} | {mean(wrong):.1%} |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--limit", type=int, default=10)
    given = parser.parse_args(arguments)
    print("| WHERE | sample | first | second | tokens | wrong |")
    print("|---|--:|--:|--:|--:|--:|")
    for case in CASES:
        for size in SIZES:
            print(line(case, given.limit, size, given.seeds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
