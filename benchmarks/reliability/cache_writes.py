"""What keeping answers costs a job, against the same job without a cache.

    python -m benchmarks.reliability.cache_writes --calls 4000 --rounds 9

First the cache by itself: claimed from and written to at the pace of a fast server, without
any calls. Then whole jobs on two servers, each a process of its own that has no model. The
*fast* one takes 64 calls at once and answers each after 0.1 s: 640 in a second, for prompts of
250 tokens a model that reads 160,000 tokens a second. The *instant* one answers at once: no model
is that fast, and the job's time is then what this process computes.

Pairs of jobs alternate, and which of a pair comes first; medians of the pairs are compared. On a
busy machine the first figure is the one to go by: the others drown in what else is running.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import quackllm
from quackllm.engine.cache import AnswerCache, NoCache, PersistentCache, Question
from quackllm.engine.shared_calls import SharedCalls

MOST_SHARE = 0.03
"""Of the time of a job on the fast server."""

IN_FLIGHT = 64
PACE = 640
"""Calls per second of the fast server."""

FAST = 0.1
INSTANT = 0.0
"""Seconds that the servers take for an answer."""


@dataclass(frozen=True)
class Seconds:
    """What a run took: of the wall clock, and of CPU in this process."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Report:
    """Medians over the pairs; `more` is what the run with the cache took beyond the other."""

    calls: int
    without: Seconds
    more: Seconds

    def __str__(self) -> str:
        lines = [
            f"  {name}: {base:.2f} s without, {more:+.3f} s with the cache "
            f"({more / self.calls * 1e6:+.0f} us per call, {more / base:+.1%})"
            for name, base, more in (
                ("wall", self.without.wall, self.more.wall),
                ("CPU", self.without.cpu, self.more.cpu),
            )
        ]
        rate = f"  {self.calls / self.without.wall:.0f} calls/s"
        of_job = f"  CPU of the cache: {self.more.cpu / self.without.wall:.1%} of the job's time"
        return "\n".join([rate, *lines, of_job])


def job(url: str, calls: int, **settings: Any) -> Seconds:
    """Run one job on a new connection."""
    with quackllm.connect(
        base_url=url, model="fake-model", concurrency=IN_FLIGHT, progress=False, **settings
    ) as connection:
        connection.execute(
            f"CREATE TABLE t AS SELECT 'review ' || i || repeat(' lorem', 20) AS v "
            f"FROM range({calls}) r(i)"
        )
        connection.execute("SELECT LLM_FILTER('warm?', 'x')").fetchall()
        started, cpu = time.perf_counter(), time.process_time()
        connection.execute("SELECT count(LLM_FILTER('good?', v)) FROM t").fetchall()
        return Seconds(time.perf_counter() - started, time.process_time() - cpu)


@contextmanager
def server(latency: float) -> Iterator[str]:
    """Run a model server; give its address."""
    command = [sys.executable, "-m", "benchmarks.http_client.instant_server", str(latency)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def compared(url: str, calls: int, rounds: int, folder: Path) -> Report:
    """Run pairs of jobs, with a new cache file each and without a cache."""
    job(url, calls // 4, cache=False)  # imports, code that is compiled at its first use
    without, kept = [], []
    for number in range(rounds):
        file = str(folder / f"{number}.sqlite")
        for with_cache in (number % 2 == 0, number % 2 == 1):
            if with_cache:
                kept.append(job(url, calls, cache_path=file))
            else:
                without.append(job(url, calls, cache=False))
    pairs = list(zip(kept, without, strict=True))
    return Report(
        calls,
        Seconds(
            statistics.median(run.wall for run in without),
            statistics.median(run.cpu for run in without),
        ),
        Seconds(
            statistics.median(with_.wall - base.wall for with_, base in pairs),
            statistics.median(with_.cpu - base.cpu for with_, base in pairs),
        ),
    )


def by_itself(cache: AnswerCache, calls: int) -> float:
    """Return the CPU seconds that a call costs, with answers at the pace of the fast server."""
    question = Question("identity" * 50, "http://host/v1", "model")
    keys = [f'"review {i} {"lorem " * 20}"' for i in range(calls)]
    shared = SharedCalls(cache, question, lambda _: None)
    cache.get(question, keys[:1])
    started, cpu = time.perf_counter(), time.process_time()
    shared.begin(keys, IN_FLIGHT)
    for number, position in enumerate(shared.ours(range(len(keys)))):
        ahead = started + number / PACE - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        shared.answered(keys[position], "true")
    shared.close()
    cache.flush()
    return (time.process_time() - cpu) / calls


def cost_by_itself(calls: int, folder: Path) -> float:
    """Return the CPU seconds per call of keeping answers, those of the loop taken off."""
    nothing = by_itself(NoCache(), calls)
    with closing(PersistentCache(folder / "alone.sqlite", limit=10**9, notify=print)) as cache:
        return by_itself(cache, calls) - nothing


def main() -> None:
    """Run and report; fail when the cache takes too much of the job on the fast server."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=4000)
    options.add_argument("--rounds", type=int, default=9)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cost = statistics.median(
            cost_by_itself(chosen.calls, Path(tempfile.mkdtemp(dir=folder))) for _ in range(3)
        )
    share = cost * PACE
    print(f"by itself: {cost * 1e6:.0f} us of CPU per call, {share:.1%} of a job at {PACE} calls/s")
    for name, latency in (("fast", FAST), ("instant", INSTANT)):
        with tempfile.TemporaryDirectory() as folder, server(latency) as url:
            report = compared(url, chosen.calls, chosen.rounds, Path(folder))
        print(f"{name} server, {chosen.calls:,} calls in {chosen.rounds} pairs of runs:\n{report}")
    assert share <= MOST_SHARE


if __name__ == "__main__":
    main()
