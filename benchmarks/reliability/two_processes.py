"""Two processes run one statement at once over one cache file: who asks what.

python -m benchmarks.reliability.two_processes --calls 2000 --rounds 5
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability import watched
from quackllm.testing import FakeServer

MOST_EXTRA = 0.05


@dataclass(frozen=True)
class Report:
    """Requests that the server saw of both processes, and of each of them."""

    calls: int
    requests: int
    by_process: tuple[int, ...]
    rows_equal: bool

    @property
    def extra(self) -> float:
        """Requests beyond those of one process, as a part of them."""
        return self.requests / self.calls - 1

    def __str__(self) -> str:
        shares = " + ".join(f"{count:,}" for count in self.by_process)
        return (
            f"{self.calls:,} calls by {len(self.by_process)} processes: {self.requests:,} requests "
            f"({shares} answers), {self.extra:+.2%}; "
            f"rows {'equal' if self.rows_equal else 'DIFFER'}"
        )


def together(calls: int, folder: Path, processes: int = 2, latency: float = 0.02) -> Report:
    """Start the statement in several processes at once."""
    with FakeServer(latency=latency, keep=0) as server:
        cache = folder / "shared.sqlite"
        runs = [watched.start(server.base_url, cache, calls) for _ in range(processes)]
        for run in runs:
            run.wait()
        requests = server.calls
    first = runs[0].rows
    return Report(
        calls=calls,
        requests=requests,
        by_process=tuple(len(run.came) for run in runs),
        rows_equal=first is not None and all(run.rows == first for run in runs),
    )


def main() -> None:
    """Run and report; fail when a promise is broken."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory() as folder:
            report = together(chosen.calls, Path(folder))
        print(report)
        assert report.rows_equal
        assert report.extra <= MOST_EXTRA


if __name__ == "__main__":
    main()
