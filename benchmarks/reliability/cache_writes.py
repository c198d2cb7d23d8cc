"""What keeping answers costs a job on a fast server, against the same job without a cache.

    python -m benchmarks.reliability.cache_writes --calls 5000 --rounds 7

The server answers at once, from a process of its own: no model is that fast, so what is
measured is the most that keeping can cost. Rounds alternate, and medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import quackllm

MOST_SHARE = 0.03


def job(url: str, calls: int, **settings: Any) -> tuple[float, float]:
    """Run one job on a new connection; return its seconds, of the wall clock and of CPU."""
    with quackllm.connect(
        base_url=url, model="fake-model", progress=False, **settings
    ) as connection:
        connection.execute(
            f"CREATE TABLE t AS SELECT 'review ' || i || repeat(' lorem', 20) AS v "
            f"FROM range({calls}) r(i)"
        )
        connection.execute("SELECT LLM_FILTER('warm?', 'x')").fetchall()
        started, cpu = time.perf_counter(), time.process_time()
        connection.execute("SELECT count(LLM_FILTER('good?', v)) FROM t").fetchall()
        return time.perf_counter() - started, time.process_time() - cpu


def main() -> None:
    """Run and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=5000)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    command = [sys.executable, "-m", "benchmarks.http_client.instant_server"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
    ):
        assert server.stdout is not None and server.stdin is not None
        url = server.stdout.readline().strip()
        kept, without = [], []
        for number in range(chosen.rounds):
            path = str(Path(folder) / f"{number}.sqlite")
            without.append(job(url, chosen.calls, cache=False))
            kept.append(job(url, chosen.calls, cache_path=path))
        server.stdin.close()
    for name, at in (("seconds", 0), ("seconds of CPU", 1)):
        base = statistics.median(each[at] for each in without)
        more = statistics.median(
            with_[at] - base_[at] for with_, base_ in zip(kept, without, strict=True)
        )
        print(
            f"{name}: {base:.2f} without, {more:+.3f} with the cache "
            f"({more / chosen.calls * 1e6:+.0f} us per call, {more / base:+.1%})"
        )


if __name__ == "__main__":
    main()
