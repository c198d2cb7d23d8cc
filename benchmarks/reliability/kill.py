"""kill -9 at random points of a statement: what was finished is never asked again.

    python -m benchmarks.reliability.kill --calls 2000 --kills 20 --seed 1

One statement is begun again and again over one cache file and killed at random points,
then left to end. Its rows are compared with those of a run that nobody disturbed, and the
requests that the server saw with what the killed processes had said they had kept.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability import watched
from quackllm.engine.providers.base import Request
from quackllm.testing import FakeServer
from quackllm.testing.fake_provider import deterministic_answer


@dataclass(frozen=True)
class Report:
    """What became of a statement that was killed.

    again: answers that had been kept and were asked for again: none is right.
    lost: answers that the kill met on their way from the socket to the file: calls in flight
        that were all but over, one per kill at most.
    in_flight: all other calls that were under way when they were cut off.
    """

    calls: int
    kills: int
    requests: int
    again: int
    lost: int
    in_flight: int
    rows_equal: bool

    def __str__(self) -> str:
        return (
            f"{self.calls:,} calls, killed {self.kills} times: {self.requests:,} requests; "
            f"{self.again} finished answers asked again; lost were {self.in_flight} calls in "
            f"flight and {self.lost} answers on their way to the file; "
            f"rows {'equal' if self.rows_equal else 'DIFFER'}"
        )


class _Counting:
    """Answers like the fake and counts how often each row was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, request: Request) -> str:
        self.asked[json.dumps(json.loads(request.fields)["v"])] += 1
        return deterministic_answer(request)


def killed(calls: int, kills: int, seed: int, folder: Path, latency: float = 0.02) -> Report:
    """Run the statement, killed `kills` times at random points."""
    draw = random.Random(seed)
    points = sorted(draw.sample(range(1, calls), kills))
    counting = _Counting()
    again = lost = cut = 0
    with FakeServer(answer=counting, latency=latency, keep=0) as server:
        undisturbed = watched.start(server.base_url, folder / "undisturbed.sqlite", calls)
        undisturbed.wait()
        counting.asked.clear()
        known: set[str] = set()
        for point in points:
            before = counting.asked.copy()
            run = watched.start(server.base_url, folder / "killed.sqlite", calls)
            while counting.asked.total() < point + lost + cut and run.process.poll() is None:
                time.sleep(0.001)
            run.process.kill()
            run.wait()
            asked_now = counting.asked - before
            again += sum((key in known) for key in asked_now)
            known |= run.kept
            lost += len(run.came - run.kept)
            cut += len(asked_now.keys() - run.came)
        before = counting.asked.copy()
        last = watched.start(server.base_url, folder / "killed.sqlite", calls)
        last.wait()
        again += sum((key in known) for key in counting.asked - before)
    return Report(
        calls=calls,
        kills=kills,
        requests=counting.asked.total(),
        again=again,
        lost=lost,
        in_flight=cut,
        rows_equal=last.rows is not None and last.rows == undisturbed.rows,
    )


def main() -> None:
    """Run and report; fail when a promise is broken."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=2000)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = killed(chosen.calls, chosen.kills, chosen.seed, Path(folder))
    print(report)
    assert report.again == 0
    assert report.lost <= chosen.kills
    assert report.rows_equal


if __name__ == "__main__":
    main()
