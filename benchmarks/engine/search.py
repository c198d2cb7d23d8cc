"""What llm_search finds, and how fast: recall on SQuAD's questions, and a large table of vectors.

    python -m benchmarks.engine.search speed [--vectors 100000]
    python -m benchmarks.engine.search comparing [--vectors 100000]
    python -m benchmarks.engine.search recall [--data DIR] [--passages 500] [--questions 500]

Speed: one question over a table with a column of embeddings, medians of several runs; beside
the whole statement, in turns, plain DuckDB with the vector written out. The model is a fake that
answers at once. Comparing: the ways to compare one question with the vectors of a column, least
time of the processor (docs/decisions/search-keeps-no-matrix.md). Recall: of each question, whether
the passage that it was asked about is among the first three of so many passages, by words, by
meaning (the embedded all-MiniLM-L6-v2) and by both. The passages are those of one domain of the
table squad_rag_contexts, in the order of their numbers, the questions the first that are about
them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import pyarrow as pa

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Capabilities
from quackllm.testing import FakeProvider
from quackllm.udfs.vectors import packed

DIMENSIONS = 384
NEAR = 3
STATEMENTS = {
    "meaning, vectors in a column": "mode := 'vector', vector := 'vector'",
    "words": "mode := 'lexical'",
    "both, vectors in a column": "vector := 'vector'",
}


def speed(vectors: int, times: int) -> None:
    """Print the median time of a search, whole statements, in milliseconds."""
    drawn = np.random.default_rng(1)
    question = drawn.standard_normal(DIMENSIONS).astype(np.float32)
    fake = FakeProvider(
        answer=lambda _: packed(question), capabilities=Capabilities(dimensions=DIMENSIONS)
    )
    with quackllm.connect(provider=fake, progress=False) as connection:
        numbers = drawn.standard_normal(vectors * DIMENSIONS, np.float32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(numbers), DIMENSIONS)
        connection.register("drawn", pa.table({"id": range(vectors), "vector": lists}))
        connection.execute(
            "CREATE TABLE passages AS SELECT id, vector, concat('passage ', id, ' is about word', "
            "id % 997, ' and word', id % 89, ', as short reviews are') AS body FROM drawn"
        )
        duckdbs = (
            "SELECT id FROM passages ORDER BY array_cosine_similarity(vector, "
            f"CAST({question.tolist()} AS FLOAT[{DIMENSIONS}])) DESC LIMIT 10"
        )
        statements = {"plain DuckDB, the vector written out": duckdbs} | {
            name: f"SELECT id FROM llm_search('passages', 'body', 'word5 and word3', {options})"
            for name, options in STATEMENTS.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in statements}
        for turn in range(times + 1):
            for name, sql in statements.items():
                started = time.perf_counter()
                connection.execute(sql).fetchall()
                if turn:  # the first one opens and compiles
                    seconds[name].append(time.perf_counter() - started)
    for name, taken in seconds.items():
        print(f"{name:40} {median(taken) * 1e3:8.1f} ms over {vectors:,} rows")


def comparing(vectors: int, times: int) -> None:
    """Print the least time of the processor that each way of comparing takes, in milliseconds."""
    drawn = np.random.default_rng(1)
    question = drawn.standard_normal(DIMENSIONS).astype(np.float32)
    matrix = drawn.standard_normal((vectors, DIMENSIONS), np.float32)
    with duckdb.connect() as connection:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), DIMENSIONS)
        connection.register("drawn", pa.table({"vector": lists}))
        connection.execute("CREATE TABLE passages AS FROM drawn")
        asked = pa.FixedSizeListArray.from_arrays(pa.array(question), DIMENSIONS)
        connection.register("asked", pa.table({"question": asked}))

        def compared(function: str) -> None:
            value = f"max({function}(vector, (SELECT question FROM asked)))"
            connection.execute(f"SELECT {value} FROM passages").fetchall()

        ways: dict[str, Callable[[], object]] = {
            "DuckDB, array_cosine_similarity": lambda: compared("array_cosine_similarity"),
            "DuckDB, array_inner_product": lambda: compared("array_inner_product"),
            "DuckDB to Arrow, nothing compared": lambda: connection.sql(
                "SELECT vector FROM passages"
            ).to_arrow_table(),
            "NumPy, a matrix that is there": lambda: matrix @ question,
        }
        for name, way in ways.items():
            taken = []
            for _ in range(times + 1):
                started = time.process_time()
                way()
                taken.append(time.process_time() - started)
            print(f"{name:40} {min(taken) * 1e3:8.1f} ms over {vectors:,} vectors")


def recall(data: Path, domain: str, passages: int, questions: int) -> None:
    """Print the share of questions whose passage is among the first ones, per mode."""
    with quackllm.connect(progress=False, cache_path=":memory:") as connection:
        connection.execute(
            "CREATE TABLE passages AS SELECT context_id AS id, context AS body FROM "
            f"'{data}/tables/squad_rag_contexts.parquet' WHERE domain = $1 "
            "ORDER BY context_id LIMIT $2",
            [domain, passages],
        )
        connection.execute(
            "CREATE TABLE questions AS SELECT qid, question, gold_context_id AS gold FROM "
            f"'{data}/tables/squad_rag_questions.parquet' SEMI JOIN passages "
            "ON passages.id = gold_context_id ORDER BY qid LIMIT $1",
            [questions],
        )
        for mode in ("lexical", "vector", "hybrid"):
            _print_recall(connection, mode)


def _print_recall(connection: Connection, mode: str) -> None:
    started = time.perf_counter()
    found, asked = connection.execute(
        "SELECT count(*) FILTER (WHERE qid IN (SELECT q.qid FROM questions q, llm_search("
        f"'passages', 'body', q.question, k := {NEAR}, mode := '{mode}') p WHERE p.id = q.gold)), "
        "count(*) FROM questions"
    ).fetchall()[0]
    seconds = time.perf_counter() - started
    print(f"{mode:8} recall@{NEAR} {found / asked:.1%} of {asked:,} questions, {seconds:.1f} s")


def main() -> None:
    """Measure what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=("speed", "comparing", "recall"))
    options.add_argument("--vectors", type=int, default=100_000)
    options.add_argument("--times", type=int, default=11)
    folder = os.environ.get("QUACKLLM_BENCH_DATA", "../shared/data")
    options.add_argument("--data", type=Path, default=Path(folder))
    options.add_argument("--domain", default="new_wiki")
    options.add_argument("--passages", type=int, default=500)
    options.add_argument("--questions", type=int, default=500)
    chosen = options.parse_args()
    if chosen.what == "speed":
        speed(chosen.vectors, chosen.times)
    elif chosen.what == "comparing":
        comparing(chosen.vectors, chosen.times)
    else:
        recall(chosen.data, chosen.domain, chosen.passages, chosen.questions)


if __name__ == "__main__":
    main()
