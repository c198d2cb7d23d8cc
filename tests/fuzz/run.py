"""The long run: `python -m tests.fuzz.run --statements 10000 --seed 1`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.campaign import Tally, run_batch, shrink
from tests.fuzz.judge import MORE_CALLS

BATCH = 50


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign and print its report; 1 when the planner was wrong somewhere."""
    given = _parsed(arguments)
    logging.getLogger("quackllm").setLevel(logging.CRITICAL)
    started, tally = time.monotonic(), Tally()
    seeds = [given.seed * 1_000_000 + i for i in range(-(-given.statements // BATCH))]
    with ProcessPoolExecutor(given.jobs) as pool:
        sizes = [BATCH] * len(seeds)
        for batch in pool.map(run_batch, seeds, sizes):
            tally.add(batch)
    print(report(tally, time.monotonic() - started, given.seed), flush=True)
    for number, (signature, found) in enumerate(tally.found.items()):
        smallest = shrink(found, signature) if number < given.shrink else found
        print(f"\n--- {signature}\n{smallest.case}\n-- {smallest.detail}", flush=True)
    return 1 if tally.found else 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--statements", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--shrink", type=int, default=10, help="failures to make small")
    return parser.parse_args(arguments)


def report(tally: Tally, seconds: float, seed: int) -> str:
    """Write a campaign for people."""
    judged = tally.statements - tally.outcomes["discarded"]
    known = sum(n for name, n in tally.outcomes.items() if name.startswith(MORE_CALLS))
    failed = judged - tally.outcomes["equal"] - known
    sites = tally.staged_calls + tally.unstaged_calls
    lines = [
        f"seed {seed}: {tally.statements:,} statements in {seconds:,.0f} s "
        f"({tally.statements / max(seconds, 1e-9):.1f}/s)",
        f"discarded (DuckDB refuses them): {_share(tally.outcomes['discarded'], tally.statements)}",
        f"compared: {judged:,}; different: {failed:,}; more calls for a known cause: {known:,}",
        f"staged whole: {_share(tally.staged_statements, tally.explained)} of statements, "
        f"{_share(tally.staged_calls, sites)} of call sites",
        f"calls: {tally.planned:,} planned, {tally.naive:,} naive with answers remembered "
        f"({_saved(tally.planned, tally.naive)} saved), {tally.per_row:,} naive, one per row "
        f"({_saved(tally.planned, tally.per_row)} saved)",
        _listed("outcomes", tally.outcomes),
        _listed("not staged because", tally.reasons),
        _listed("discarded because", tally.discarded, 12),
        _listed("statements that use", tally.features),
    ]
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})"


def _saved(less: int, more: int) -> str:
    return f"{1 - less / max(more, 1):.1%}"


def _listed(title: str, counts: Counter[str], most: int | None = None) -> str:
    lines = [f"  {count:>7,}  {name}" for name, count in counts.most_common(most)]
    return "\n".join([f"{title}:", *lines])


if __name__ == "__main__":
    sys.exit(main())
