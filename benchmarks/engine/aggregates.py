"""LLM_AGG over 10,000 reviews in 100 groups: calls, a change of one row, use of the server.

    python -m benchmarks.engine.aggregates --rows 10000 --groups 100

The fake server takes the same time for every call and so many at once, so that its full
throughput is known: calls x seconds / calls at once.
"""

from __future__ import annotations

import argparse
import time

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider

SECONDS = 0.05
AT_ONCE = 16
LEAST_USE = 0.8
WORDS = "['slow','kind','broken','cheap','loud','heavy','warm','bright']"
STATEMENT = (
    "SELECT product, LLM_AGG(review, 'What do buyers complain about?', max_words := 30, "
    "chunk_tokens := {}) FROM reviews GROUP BY product"
)


def fill(connection: Connection, rows: int, groups: int) -> None:
    """Make reviews of about 40 words."""
    connection.execute(
        f"CREATE TABLE reviews AS SELECT i AS id, i % {groups} AS product, "
        f"list_aggregate([{WORDS}[1 + (hash(i * 50 + j) % 8)::INTEGER] FOR j IN range(40)], "
        f"'string_agg', ' ') || ' ' || i AS review FROM range({rows}) r(i)"
    )


def main() -> None:
    """Run and report; fail when the server idles, or a change redoes more than its path."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--groups", type=int, default=100)
    options.add_argument("--chunk-tokens", type=int, default=1_000)
    chosen = options.parse_args()
    fake = FakeProvider(latency=SECONDS)
    statement = STATEMENT.format(chosen.chunk_tokens)
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute(f"SET llm_concurrency = {AT_ONCE}")
        fill(connection, chosen.rows, chosen.groups)
        started = time.perf_counter()
        rows = connection.execute(statement).fetchall()
        seconds, calls = time.perf_counter() - started, fake.calls
        assert len(rows) == chosen.groups and None not in [answer for _, answer in rows]
        use = calls * SECONDS / AT_ONCE / seconds
        print(
            f"{chosen.rows:,} rows in {chosen.groups} groups: {calls:,} calls in {seconds:.2f} s, "
            f"{use:.0%} of what the server can do"
        )
        connection.execute("UPDATE reviews SET review = 'another one' WHERE id = 4321")
        connection.execute(statement).fetchall()
        again = fake.calls - calls
        print(f"one row changed: {again} calls")
    assert use >= LEAST_USE
    assert again <= 6


if __name__ == "__main__":
    main()
