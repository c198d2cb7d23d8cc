"""Memory of a statement over many rows: it grows with distinct tuples, not with rows.

The model is the instant in-process fake. The table is in a file and DuckDB may take
`--memory` of its own; what it cannot hold goes to disk.

    python -m benchmarks.reliability.scale --rows 10000000 --distinct 1000000
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import psutil

import quackllm
from quackllm.testing import FakeProvider

SAMPLES_PER_SECOND = 20
TABLE = (
    "CREATE TABLE big AS SELECT i, 'this is review number ' || (i % {distinct}) "
    "|| repeat(' lorem ipsum', 5) AS body FROM range({rows}) r(i)"
)
STATEMENT = "CREATE TABLE answers AS SELECT i, LLM_FILTER('good?', body) AS good FROM big"


class Peak:
    """The largest resident memory of this process while it is measured, in bytes."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.bytes = self.before = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._done.wait(1 / SAMPLES_PER_SECOND):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def measure(rows: int, distinct: int, memory: str, folder: str) -> None:
    """Answer all rows of a table; print time and memory."""
    fake = FakeProvider(answer=lambda _: "true", keep=0)
    database = Path(folder) / "scale.duckdb"
    with quackllm.connect(str(database), provider=fake, progress=False, cache=False) as con:
        con.execute(f"SET memory_limit = '{memory}'")
        con.execute(TABLE.format(rows=rows, distinct=distinct))
        with Peak() as peak:
            began = time.perf_counter()
            con.execute(STATEMENT)
            seconds = time.perf_counter() - began
        [(answered,)] = con.execute("SELECT count(good) FROM answers").fetchall()
    print(
        f"{rows:,} rows, {distinct:,} distinct tuples, {fake.calls:,} calls, {answered:,} answered "
        f"in {seconds:.0f} s; resident {peak.before / 2**20:.0f} MiB before, "
        f"{peak.bytes / 2**20:.0f} MiB at the peak, with DuckDB's memory_limit at {memory}"
    )


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--distinct", type=int, default=1_000_000)
    parser.add_argument("--memory", default="512MB")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(chosen.rows, chosen.distinct, chosen.memory, folder)


if __name__ == "__main__":
    main()
