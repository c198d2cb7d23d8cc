"""LLM_RANK, LLM_FIRST, LLM_LAST: comparisons per row, and how near noise lets a top-k come.

    python -m benchmarks.engine.ranking --rows 2000 --first 10

Values are ranked by a judge that knows their true order and is wrong about a share of the
pairs, drawn for each pair. Of the first k found it is told how many are among the true ones,
and how many are among those of the full sort by the same judge. The first and the last of
groups of some sizes are found by a judge that is never wrong. The seconds are of a statement
through the engine, asking a fake that takes no time.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.testing import FakeProvider
from quackllm.udfs.base import ALL, Wanted
from quackllm.udfs.ranking import End, Outcome, Pair, Ranking, end_of
from quackllm.udfs.rounds import in_step

NOISE = (0.0, 0.05, 0.1, 0.2, 0.3)
MOST_PER_ROW = 3
GROUPS = (2, 3, 4, 5, 10, 20, 50, 100, 500, 2_000)
ENDS: tuple[End, ...] = ("first", "last")


class Judge:
    """Compares numbers by their places in a shuffled order; is wrong about some pairs."""

    def __init__(self, rows: int, noise: float, seed: int) -> None:
        self.order = random.Random(seed).sample(range(rows), rows)
        self.comparisons = 0
        self.rounds = 0
        self._place = {number: place for place, number in enumerate(self.order)}
        self._noise = noise
        self._seed = seed

    def __call__(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """Compare the pairs of a round."""
        self.comparisons += len(pairs)
        self.rounds += 1
        return [(self._place[a] < self._place[b]) is not self._is_wrong(a, b) for a, b in pairs]

    def _is_wrong(self, one: int, other: int) -> bool:
        return random.Random(f"{self._seed} {one} {other}").random() < self._noise


def found(rows: int, noise: float, seed: int, wanted: Wanted, first: int) -> tuple[Judge, set[int]]:
    """Rank; return the judge, and the numbers with the first ranks."""
    judge = Judge(rows, noise, seed)
    ranks = Ranking(rows, wanted).run(judge)
    return judge, {number for number, rank in ranks.items() if rank <= first}


def report(rows: int, first: int, noise: float, seeds: int) -> None:
    """Print one line about a share of wrong comparisons."""
    tops, sorts, true, same = [], [], 0, 0
    for seed in range(seeds):
        top, best = found(rows, noise, seed, Wanted(first=first), first)
        sort, best_sorted = found(rows, noise, seed, ALL, first)
        tops.append(top)
        sorts.append(sort)
        true += len(best & set(top.order[:first]))
        same += len(best & best_sorted)
    of_all = seeds * first
    per_row = [judge.comparisons / rows for judge in tops]
    print(
        f"{noise:>5.0%} {sum(per_row) / seeds:>9.2f} {max(per_row):>9.2f} "
        f"{sum(judge.rounds for judge in tops) / seeds:>7.1f} {true / of_all:>9.0%} "
        f"{same / of_all:>9.0%} {sum(j.comparisons for j in sorts) / rows / seeds:>10.2f} "
        f"{sum(judge.rounds for judge in sorts) / seeds:>7.1f}"
    )
    assert max(per_row) <= MOST_PER_ROW
    assert same == of_all


def report_ends(size: int, seeds: int) -> None:
    """Print what finding the first and the last of a group takes."""
    shown = [f"{size:>5,}"]
    for end in ENDS:
        judges = [Judge(size, 0.0, seed) for seed in range(seeds)]
        for judge in judges:
            [found] = in_step([end_of(range(size), end)], judge)
            assert found == judge.order[0 if end == "first" else -1]
        comparisons = sum(judge.comparisons for judge in judges) / seeds
        rounds = sum(judge.rounds for judge in judges) / seeds
        shown.append(f"{comparisons / size:>9.2f} {rounds:>7.1f}")
    print(" ".join(shown))


def larger(request: Request) -> str:
    """Say which of two numbers is larger."""
    fields = json.loads(request.fields)
    return "A" if fields["A"] > fields["B"] else "B"


def through_the_engine(rows: int, first: int) -> None:
    """Time a top-k and a sort in SQL."""
    for limit in (f" LIMIT {first}", ""):
        fake = FakeProvider(answer=larger)
        with quackllm.connect(provider=fake, progress=False) as connection:
            connection.execute(f"CREATE TABLE t AS SELECT i AS n FROM range({rows}) r(i)")
            started = time.perf_counter()
            best = connection.execute(
                f"SELECT n FROM t ORDER BY LLM_RANK('which is larger', n){limit}"
            ).fetchall()
            seconds = time.perf_counter() - started
        assert best[:first] == [(rows - 1 - place,) for place in range(first)]
        print(f"ORDER BY LLM_RANK(...){limit}: {fake.calls:,} calls in {seconds:.2f} s")


def main() -> None:
    """Run and report; fail where a top-k costs too much, or differs from the sort."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=2_000)
    options.add_argument("--first", type=int, default=10)
    options.add_argument("--seeds", type=int, default=20)
    chosen = options.parse_args()
    print(
        "wrong   per row  at worst  rounds  of true  of sort's  sort, per row  rounds   "
        f"(top {chosen.first} of {chosen.rows:,}, {chosen.seeds} draws)"
    )
    for noise in NOISE:
        report(chosen.rows, chosen.first, noise, chosen.seeds)
    print("group  LLM_FIRST, per value, rounds  LLM_LAST, per value, rounds")
    for size in GROUPS:
        report_ends(size, 10 * chosen.seeds)
    through_the_engine(chosen.rows, chosen.first)


if __name__ == "__main__":
    main()
