"""A statement whose answers are all in the cache file: how long it takes to find them.

    python -m benchmarks.reliability.cache_hits --tuples 1000000

The file is filled first, without a model; then a connection of its own answers a statement
over as many distinct texts from it, twice: with a cold file of the process, and again.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa

import quackllm
from quackllm.engine.cache import question_of
from quackllm.engine.cache.store import Store
from quackllm.engine.connection import Connection
from quackllm.engine.run import answer_keys
from quackllm.testing import FakeProvider

MOST_SECONDS = 15.0
STATEMENT = "SELECT count(*), count(a) FROM (SELECT LLM_FILTER('Is it good?', body) AS a FROM big)"
BIG = (
    "CREATE TABLE big AS SELECT 'this is review number ' || i || repeat(' lorem ipsum', 5) AS body "
    "FROM range({}) r(i)"
)
ROWS_PER_WRITE = 20_000


def fill(connection: Connection, path: Path) -> None:
    """Write an answer for every row of the table, as a statement before would have."""
    call = connection.llm_engine.functions.bind(
        "llm_filter", {"prompt": "Is it good?"}, {}, ["body"]
    )
    question = question_of(call, FakeProvider())
    bodies = connection.execute("SELECT CAST(to_json(body) AS VARCHAR) FROM big").fetchall()
    digests = question.keys(answer_keys(call, [pa.array([body for (body,) in bodies])], 0))
    digests.sort()
    store = Store.open(path)
    for start in range(0, len(digests), ROWS_PER_WRITE):
        some = digests[start : start + ROWS_PER_WRITE]
        store.write([question], [(digest, question.number, "true", 1) for digest in some])
    store.close()


def main() -> None:
    """Run and report; fail when it takes too long."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tuples", type=int, default=1_000_000)
    chosen = options.parse_args()
    fake = FakeProvider()
    with (
        tempfile.TemporaryDirectory() as folder,
        quackllm.connect(provider=fake, progress=False) as connection,
    ):
        path = Path(folder) / "answers.sqlite"
        connection.execute(BIG.format(chosen.tuples))
        fill(connection, path)
        connection.execute(f"SET llm_cache_path = '{path}'")
        for name in ("first", "again"):
            started, cpu = time.perf_counter(), time.process_time()
            counted = connection.execute(STATEMENT).fetchone()
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"{name}: {chosen.tuples:,} tuples from {path.stat().st_size / 1e6:.0f} MB in "
                f"{seconds:.1f} s ({cpu:.1f} s of CPU), {fake.calls} calls, peak {peak:.2f} GiB"
            )
            assert counted == (chosen.tuples, chosen.tuples)
            assert fake.calls == 0
            assert seconds <= MOST_SECONDS


if __name__ == "__main__":
    main()
