"""What the engine itself costs for embeddings, and a search over vectors in a table.

    python -m benchmarks.engine.embeddings --texts 50000 --vectors 100000

The fake model answers at once, every text with the same vector, so that all the time of the
first figure is the engine's. The search compares one embedded question with every row; beside
it, in turns, plain DuckDB with the same vector written out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
import pyarrow as pa

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider
from quackllm.udfs.vectors import packed

DIMENSIONS = 384
MOST_EMBEDDING_SECONDS = 5.0
MOST_TIMES_DUCKDB = 1.5
SEARCH = "SELECT id FROM indexed ORDER BY array_cosine_similarity(vector, {}) DESC, id LIMIT 10"
EMBEDDED = f"LLM_EMBED('a question', dimensions := {DIMENSIONS})"


def embed(connection: Connection, texts: int) -> float:
    """Return the seconds to embed so many short texts into a table."""
    connection.execute(
        "CREATE TABLE reviews AS SELECT i AS id, 'a short review, number ' || i AS body "
        f"FROM range({texts}) r(i)"
    )
    started = time.perf_counter()
    connection.execute(
        f"CREATE TABLE embedded AS SELECT id, LLM_EMBED(body, dimensions := {DIMENSIONS}) AS v "
        "FROM reviews"
    )
    seconds = time.perf_counter() - started
    assert connection.execute("SELECT count(v) FROM embedded").fetchall() == [(texts,)]
    return seconds


def search(
    connection: Connection, vectors: int, times: int, vector: Sequence[float]
) -> tuple[float, float]:
    """Return the median seconds of a search over random vectors, and of DuckDB's own."""
    numbers = np.random.default_rng(1).standard_normal(vectors * DIMENSIONS, np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(numbers), DIMENSIONS)
    connection.register("drawn", pa.table({"id": range(vectors), "vector": lists}))
    connection.execute("CREATE TABLE indexed AS SELECT * FROM drawn")
    written = f"CAST({list(vector)} AS FLOAT[{DIMENSIONS}])"
    seconds: dict[str, list[float]] = {EMBEDDED: [], written: []}
    rows = {}
    for _ in range(times + 1):
        for asked, taken in seconds.items():
            started = time.perf_counter()
            rows[asked] = connection.execute(SEARCH.format(asked)).fetchall()
            taken.append(time.perf_counter() - started)
    assert rows[EMBEDDED] == rows[written] and len(rows[written]) == 10
    return median(seconds[EMBEDDED][1:]), median(seconds[written][1:])


def main() -> None:
    """Run and report; fail when it takes too long."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=50_000)
    options.add_argument("--vectors", type=int, default=100_000)
    options.add_argument("--times", type=int, default=20)
    chosen = options.parse_args()
    vector = np.full(DIMENSIONS, DIMENSIONS**-0.5, np.float32)
    fake = FakeProvider(answer=lambda _: packed(vector))
    with quackllm.connect(provider=fake, progress=False) as connection:
        seconds = embed(connection, chosen.texts)
        print(f"{chosen.texts:,} texts embedded in {seconds:.2f} s, {fake.calls:,} calls")
        ours, duckdbs = search(connection, chosen.vectors, chosen.times, vector.tolist())
        print(
            f"search of {chosen.vectors:,} vectors of {DIMENSIONS}: {ours * 1e3:.1f} ms, "
            f"plain DuckDB {duckdbs * 1e3:.1f} ms (medians)"
        )
    assert seconds <= MOST_EMBEDDING_SECONDS
    assert ours <= MOST_TIMES_DUCKDB * duckdbs


if __name__ == "__main__":
    main()
