"""Pairwise precision, recall and F1 of llm_dedup beside the calls that it makes.

    python -m benchmarks.dedup
    python -m benchmarks.dedup --tables abt_buy --matches 150 --model embedded

Two tables with known matches are one table with duplicates. Embeddings are those of the
embedded all-MiniLM-L6-v2. An oracle that knows the matches shows what blocking loses: nothing
else is left that could go wrong. Without a model, pairs above a similarity are the same; the
similarity is the best of several, so that is the most that it can reach. A model is asked with
--model: 'embedded', or a name that --base-url serves; that takes a call per pair.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import quackllm
from benchmarks.dedup.tables import TEXTS, Dirty, load
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Capabilities, Request
from quackllm.engine.providers.text_batches import text_of
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Embedding
from quackllm.udfs.vectors import packed

NEIGHBOURS = (1, 3, 5, 10)
THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
QUESTION = "Are a and b the same product or publication?"

Vectors = Mapping[str, NDArray[np.float32]]
Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Measured:
    """One run: calls that compared, and the clusters against those that are right."""

    calls: int
    precision: float
    recall: float
    seconds: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def pairwise(found: Sequence[int], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Return precision and recall of the pairs of rows that share a cluster."""
    shared = _pairs(np.array([f"{a} {b}" for a, b in zip(found, truth.tolist(), strict=True)]))
    return shared / max(_pairs(np.array(found)), 1), shared / max(_pairs(truth), 1)


def _pairs(clusters: NDArray[Any]) -> int:
    sizes = np.unique(clusters, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def run(connection: Connection, table: Dirty, options: str) -> Measured:
    """Deduplicate a table; return what came of it."""
    rows = pa.table({"row": range(len(table.texts)), "text": table.texts})
    connection.register("given", rows)
    connection.execute("CREATE OR REPLACE TABLE dirty AS SELECT * FROM given")
    started = time.perf_counter()
    found = connection.execute(
        f"SELECT cluster_id FROM llm_dedup('dirty', 'text'{options}) ORDER BY row"
    ).fetchall()
    seconds = time.perf_counter() - started
    stages = connection.llm_engine.history[-1].stages.values()
    calls = sum(stage.tuples for stage in stages if stage.function == "llm_filter")
    return Measured(calls, *pairwise([each[0] for each in found], table.truth), seconds)


def embedded(connection: Connection, table: Dirty) -> Vectors:
    """Embed the texts of a table with the embedded model, or take what is kept."""
    connection.register("given", pa.table({"text": table.texts}))
    connection.execute("CREATE OR REPLACE TABLE texts AS SELECT DISTINCT text FROM given")
    rows = connection.execute("SELECT text, LLM_EMBED(text) FROM texts").fetchall()
    return {text: np.array(vector, np.float32) for text, vector in rows}


def answering(vectors: Vectors, same: Same) -> FakeProvider:
    """Make a model that knows the vectors, and compares by a function."""

    def answer(request: Request) -> str:
        if isinstance(request.answer, Embedding):
            return packed(vectors[text_of(request.fields)])
        fields = json.loads(request.fields)
        return "true" if same(fields["a"], fields["b"]) else "false"

    dimensions = len(next(iter(vectors.values())))
    return FakeProvider(answer=answer, capabilities=Capabilities(dimensions=dimensions), keep=0)


def oracle(table: Dirty) -> Same:
    """Return what tells whether two texts have rows that are the same."""
    clusters: dict[str, set[int]] = {}
    for text, cluster in zip(table.texts, table.truth.tolist(), strict=True):
        clusters.setdefault(text, set()).add(cluster)
    return lambda a, b: not clusters[a].isdisjoint(clusters[b])


def similar(vectors: Vectors, threshold: float) -> Same:
    """Return what calls texts the same whose cosine reaches a threshold."""
    units = {text: vector / np.linalg.norm(vector) for text, vector in vectors.items()}
    return lambda a, b: bool(units[a] @ units[b] >= threshold)


def by(vectors: Vectors, same: Same, table: Dirty, options: str) -> Measured:
    """Deduplicate with a function that compares."""
    with quackllm.connect(provider=answering(vectors, same), progress=False) as connection:
        return run(connection, table, options)


def line(who: str, options: str, measured: Measured) -> str:
    """Write a line of the report."""
    return (
        f"| {who} | {options} | {measured.calls:,} | {measured.precision:.3f} | "
        f"{measured.recall:.3f} | {measured.f1:.3f} | {measured.seconds:.1f} |"
    )


def report(connection: Connection, table: Dirty, model: str | None) -> None:
    """Print the figures of one table."""
    vectors = embedded(connection, table)
    rows, texts = len(table.texts), len(vectors)
    print(f"\n{table.name}: {rows:,} rows, {texts:,} distinct texts, ", end="")
    print(f"{_pairs(table.truth):,} pairs to find, {texts * (texts - 1) // 2:,} possible\n")
    print("| compared by | options | calls | precision | recall | F1 | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for k in NEIGHBOURS:
        print(line("oracle", f"k := {k}", by(vectors, oracle(table), table, f", k := {k}")))
    found = {
        threshold: by(vectors, similar(vectors, threshold), table, ", k := 5")
        for threshold in THRESHOLDS
    }
    best = max(THRESHOLDS, key=lambda threshold: found[threshold].f1)
    print(line("similarity alone", f"at least {best}", found[best]), flush=True)
    if model is not None:
        named = "" if model == "embedded" else ", model := 'asked'"
        asked = run(connection, table, f", prompt := '{QUESTION}'{named}")
        print(line(model, "k := 5", asked), flush=True)


def main() -> None:
    """Read the arguments, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", nargs="+", choices=list(TEXTS), default=list(TEXTS))
    parser.add_argument("--matches", type=int, help="matches that are taken of each table")
    parser.add_argument("--model", help="a model that is asked too, such as 'embedded'")
    parser.add_argument("--base-url", help="the server of that model")
    parser.add_argument("--cache", type=Path, help="where answers are kept; nowhere if not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = given.cache or Path(folder) / "answers.sqlite"
        with quackllm.connect(
            cache_path=str(kept), progress=False, embedding_model="all-MiniLM-L6-v2"
        ) as connection:
            if given.model not in (None, "embedded"):
                address = "" if given.base_url is None else f", base_url '{given.base_url}'"
                connection.execute(f"CREATE MODEL asked (model '{given.model}'{address})")
            for name in given.tables:
                report(connection, load(name, given.matches), given.model)


if __name__ == "__main__":
    main()
