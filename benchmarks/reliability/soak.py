"""Memory, threads and files over a long time under faults, with a plot.

Statements of 2,000 rows run one after the other against a server where 20 % of the tries
meet a fault, of every kind. Every seventh statement is interrupted. After each the resident
memory of the process is measured.

    python -m benchmarks.reliability.soak --minutes 30 --plot docs/benchmarks/soak.png
"""

from __future__ import annotations

import argparse
import gc
import statistics
import threading
import time
from dataclasses import dataclass

import duckdb
import matplotlib
import numpy as np
import psutil

from benchmarks.reliability.faults import CALL_TIMEOUT, CONCURRENCY, Server, connected, run
from quackllm.engine.connection import Connection

ROWS = 2_000
INTERRUPTED_EVERY = 7
WARM_UP = 0.25
"""Of the samples: pools, caches and arenas fill at first."""


@dataclass(frozen=True)
class Sample:
    """The process after a statement: minutes since the start, resident bytes, what is open."""

    minutes: float
    resident: int
    threads: int
    files: int


def sample(started: float) -> Sample:
    """Measure this process."""
    gc.collect()
    process = psutil.Process()
    return Sample(
        (time.monotonic() - started) / 60,
        process.memory_info().rss,
        process.num_threads(),
        process.num_fds(),
    )


def interrupted(con: Connection, server: Server) -> None:
    """Begin a statement and interrupt it after a second."""
    timer = threading.Timer(1.0, con.interrupt)
    timer.start()
    try:
        run(con, server, ROWS)
    except duckdb.InterruptException:
        pass
    finally:
        timer.join()


def soak(minutes: float, *, latency: float, seed: int = 1) -> tuple[list[Sample], int, int]:
    """Run statements for some minutes; return the samples, rows decided and wrong rows."""
    server = Server(0.2, each=False, latency=latency, seed=seed)
    samples: list[Sample] = []
    decided = wrong = 0
    started = time.monotonic()
    try:
        with connected(
            server, concurrency=CONCURRENCY, call_timeout=CALL_TIMEOUT, max_error_ratio=1.0
        ) as con:
            while time.monotonic() - started < minutes * 60:
                if len(samples) % INTERRUPTED_EVERY == INTERRUPTED_EVERY - 1:
                    interrupted(con, server)
                else:
                    result = run(con, server, ROWS)
                    decided, wrong = decided + result.rows, wrong + result.wrong
                samples.append(sample(started))
    finally:
        server.close()
    return samples, decided, wrong


def growth(samples: list[Sample]) -> float:
    """Return the bytes per minute by which memory grew after the warm-up, by least squares."""
    kept = samples[int(len(samples) * WARM_UP) :]
    minutes = [s.minutes for s in kept]
    return float(np.polyfit(minutes, [s.resident for s in kept], 1)[0])


def summary(samples: list[Sample]) -> str:
    """Say what a part of the samples takes: memory in the middle, and the most of the rest.

    Open files go up and down with the connections that are kept for the next calls.
    """
    resident = [s.resident / 2**20 for s in samples]
    return (
        f"{statistics.median(resident):.0f} MiB (median), at most {max(resident):.0f}; "
        f"at most {max(s.threads for s in samples)} threads, "
        f"{max(s.files for s in samples)} open files"
    )


def plot(samples: list[Sample], path: str) -> None:
    """Draw memory and open files over time."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    minutes = [s.minutes for s in samples]
    figure, memory = pyplot.subplots(figsize=(8, 3.5))
    memory.plot(minutes, [s.resident / 2**20 for s in samples], color="tab:blue")
    memory.set_ylim(bottom=0)
    memory.set_xlabel("minutes")
    memory.set_ylabel("resident memory, MiB", color="tab:blue")
    files = memory.twinx()
    files.plot(minutes, [s.files for s in samples], color="tab:gray", linewidth=0.8)
    files.set_ylim(bottom=0)
    files.set_ylabel("open files and sockets", color="tab:gray")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the soak, print the growth, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--plot", default="docs/benchmarks/soak.png")
    chosen = parser.parse_args()
    samples, decided, wrong = soak(chosen.minutes, latency=chosen.latency)
    plot(samples, chosen.plot)
    print(
        f"{len(samples)} statements, {decided:,} rows, {wrong} wrong\n"
        f"second quarter: {summary(samples[len(samples) // 4 : len(samples) // 2])}\n"
        f"last quarter:   {summary(samples[-(len(samples) // 4) :])}\n"
        f"growth of memory after the first quarter: {growth(samples) / 2**20:+.2f} MiB per minute"
    )


if __name__ == "__main__":
    main()
