"""Every fault at once: no wrong row, most of the throughput, nothing left behind.

A statement calls a server that fails (`quackllm.testing.every_fault`): rate limits with
and without Retry-After, 500, 503, hangs, resets, broken and misshapen replies, empty,
refused, foreign, contradictory and missing answers, slow drips, failures of TLS and DNS.

- together (default): `--rate` of all tries meet a fault, each kind as often as the others;
- with `--each`: every kind hits `--rate` of the tries that reach its turn: at 0.2 and 17 kinds,
  98 % of all tries fail.

Judged are rows (right, or NULL and recorded; never wrong), throughput against the same
statement on the same server without faults, and threads, files and memory left behind.

    python -m benchmarks.reliability.faults --calls 100000 --rate 0.2
    python -m benchmarks.reliability.faults --calls 2000 --rate 0.2 --each
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psutil

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Provider
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.openai_compatible import open_openai_compatible
from quackllm.engine.providers.registry import Providers

CONCURRENCY = 64
LATENCY = 0.1
CALL_TIMEOUT = 2.0
QUESTION = "SELECT n, LLM_FILTER('Is it even?', n, cache := false) FROM range({}) t(n)"


class Server:
    """The faulty server, in a process of its own."""

    def __init__(self, rate: float, *, each: bool, latency: float, seed: int) -> None:
        command = [sys.executable, "-m", "benchmarks.reliability.faulty_server"]
        command += ["--rate", str(rate), "--latency", str(latency), "--seed", str(seed)]
        self._process = subprocess.Popen(
            [*command, *(["--each"] if each else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def state(self) -> tuple[int, int, int]:
        """Return calls so far, connections open and requests abandoned."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        calls, connections, abandoned = json.loads(self._process.stdout.readline())
        return calls, connections, abandoned

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


async def _open_following(config: ProviderConfig) -> Provider:
    return await open_openai_compatible(replace(config, follow_redirects=True))


@contextmanager
def connected(server: Server, **settings: Any) -> Iterator[Connection]:
    """Connect to the server; redirects are followed, by which TLS and DNS are made to fail."""
    con = quackllm.connect(base_url=server.url, model="fake-model", progress=False, **settings)
    con.llm_engine.providers = Providers({"openai": lambda: _open_following})
    try:
        yield con
    finally:
        con.close()


@dataclass(frozen=True)
class Result:
    """One statement: what became of its rows, and what it took.

    null: rows that are NULL; recorded: rows of llm_errors(). tries: requests that the
    server saw.
    """

    rows: int
    right: int
    wrong: int
    null: int
    recorded: int
    causes: Mapping[str, int]
    tries: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows decided per second."""
        return self.rows / self.seconds


def run(con: Connection, server: Server, calls: int) -> Result:
    """Ask a question of `calls` rows and compare the answers with what is right."""
    before = server.state()[0]
    began = time.perf_counter()
    rows = con.execute(QUESTION.format(calls)).fetchall()
    seconds = time.perf_counter() - began
    wrong = sum(answer is not None and answer != (n % 2 == 0) for n, answer in rows)
    null = sum(answer is None for _, answer in rows)
    causes = con.execute(
        "SELECT cause, count(*) FROM llm_errors() WHERE statement = "
        "(SELECT max(statement) FROM llm_queries()) GROUP BY cause ORDER BY 2 DESC"
    ).fetchall()
    return Result(
        rows=len(rows),
        right=len(rows) - wrong - null,
        wrong=wrong,
        null=null,
        recorded=sum(count for _, count in causes),
        causes=dict(causes),
        tries=server.state()[0] - before,
        seconds=seconds,
    )


def held() -> tuple[int, int]:
    """Return the threads and the open files, sockets included, of this process."""
    process = psutil.Process()
    return process.num_threads(), process.num_fds()


@contextmanager
def serving(
    rate: float, *, each: bool = False, latency: float = LATENCY, seed: int = 1
) -> Iterator[tuple[Connection, Server]]:
    """Start a server with a rate of faults and connect to it."""
    server = Server(rate, each=each, latency=latency, seed=seed)
    settings: dict[str, Any] = {
        "concurrency": CONCURRENCY,
        "call_timeout": CALL_TIMEOUT,
        "max_error_ratio": 1.0,
    }
    try:
        with connected(server, **settings) as con:
            yield con, server
    finally:
        server.close()


def total(results: Sequence[Result]) -> Result:
    """Add up what became of several statements."""
    causes: Counter[str] = Counter()
    for result in results:
        causes.update(result.causes)
    return Result(
        rows=sum(r.rows for r in results),
        right=sum(r.right for r in results),
        wrong=sum(r.wrong for r in results),
        null=sum(r.null for r in results),
        recorded=sum(r.recorded for r in results),
        causes=dict(causes),
        tries=sum(r.tries for r in results),
        seconds=sum(r.seconds for r in results),
    )


def alternating(
    calls: int, rounds: int, rate: float, *, each: bool, latency: float, seed: int
) -> tuple[list[Result], list[Result]]:
    """Run the statement in rounds, without faults and with them in turn.

    A machine that is busy with other work slows both sides alike.
    """
    clean, faulty = [], []
    with (
        serving(0.0, latency=latency, seed=seed) as without,
        serving(rate, each=each, latency=latency, seed=seed) as with_faults,
    ):
        for _ in range(rounds):
            clean.append(run(*without, calls // rounds))
            faulty.append(run(*with_faults, calls // rounds))
    return clean, faulty


def main() -> None:
    """Measure without faults and with them; print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--each", action="store_true", help="the rate for every kind of fault")
    parser.add_argument("--latency", type=float, default=LATENCY)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    logging.getLogger("quackllm").setLevel(logging.ERROR)
    before = held()
    rounds = alternating(
        chosen.calls,
        chosen.rounds,
        chosen.rate,
        each=chosen.each,
        latency=chosen.latency,
        seed=chosen.seed,
    )
    clean, faulty = (total(results) for results in rounds)
    ratio = statistics.median(f.rate / c.rate for c, f in zip(*rounds, strict=True))
    print(f"no faults: {clean.rows:,} rows, {clean.rate:.0f} rows/s, {clean.wrong} wrong")
    print(
        f"faults:    {faulty.rows:,} rows, {faulty.rate:.0f} rows/s, {faulty.tries:,} tries; "
        f"median of the rounds: {ratio:.0%} of the throughput without faults"
    )
    print(
        f"           {faulty.right:,} right, {faulty.wrong:,} wrong, {faulty.null:,} NULL, "
        f"{faulty.recorded:,} recorded: {faulty.causes}"
    )
    print(f"threads and open files: {before} before, {held()} after")


if __name__ == "__main__":
    main()
