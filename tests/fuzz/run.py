"""The long run: `python -m tests.fuzz.run --statements 10000 --seed 1`.

With `--minutes` it stops early, at the end of a batch, and reports what it has judged.
A batch is a seed of its own, so that a run which was stopped is the beginning of the whole.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from math import inf

from tests.fuzz.campaign import Tally, run_batch, shrink
from tests.fuzz.judge import EXCESS

BATCH = 50


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign and print its report; 1 when the planner was wrong somewhere."""
    given = _parsed(arguments)
    logging.getLogger("quackllm").setLevel(logging.CRITICAL)
    started, tally = time.monotonic(), Tally()
    seeds = (given.seed * 1_000_000 + i for i in range(-(-given.statements // BATCH)))
    with ProcessPoolExecutor(given.jobs) as pool:
        running = {
            pool.submit(run_batch, seed, BATCH, given.using) for seed in islice(seeds, given.jobs)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for batch in done:
                tally.add(batch.result())
            in_time = time.monotonic() - started < 60 * given.minutes
            if in_time:
                more = islice(seeds, given.jobs - len(running))
                running |= {pool.submit(run_batch, seed, BATCH, given.using) for seed in more}
            print(_progress(tally, started), file=sys.stderr, flush=True)
    print(report(tally, time.monotonic() - started, given.seed), flush=True)
    for number, (signature, found) in enumerate(tally.found.items()):
        smallest = shrink(found, signature) if number < given.shrink else found
        print(f"\n--- {signature}\n{smallest.case}\n-- {smallest.detail}", flush=True)
    return 1 if tally.failed else 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--statements", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--using", default="", help="a feature that all have: 'form: merge'")
    parser.add_argument("--minutes", type=float, default=inf, help="begin no batch after them")
    parser.add_argument("--shrink", type=int, default=10, help="failures to make small")
    return parser.parse_args(arguments)


def _progress(tally: Tally, started: float) -> str:
    seconds = time.monotonic() - started
    found = ", ".join(tally.found) or "no difference"
    return f"{tally.statements:,} statements, {seconds:,.0f} s: {found}"


def report(tally: Tally, seconds: float, seed: int) -> str:
    """Write a campaign for people."""
    judged = tally.statements - tally.outcomes["discarded"]
    more = sum(n for name, n in tally.outcomes.items() if name.startswith(EXCESS))
    sites = tally.staged_calls + tally.unstaged_calls
    lines = [
        f"seed {seed}: {tally.statements:,} statements in {seconds:,.0f} s "
        f"({tally.statements / max(seconds, 1e-9):.1f}/s)",
        f"discarded (DuckDB refuses them): {_share(tally.outcomes['discarded'], tally.statements)}",
        f"compared: {judged:,}; different, or more calls than one per row: {tally.failed:,}",
        f"more calls than DuckDB's plan with answers remembered: {_share(more, judged)} of "
        f"statements, {tally.excess.total():,} calls in all",
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
