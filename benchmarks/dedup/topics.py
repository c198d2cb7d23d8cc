"""How near the groups behind LLM_CLUSTER come to labels that people gave.

    python -m benchmarks.dedup.topics

Of each set some texts are embedded by the embedded all-MiniLM-L6-v2 and grouped; no model names
anything. Purity is the share of texts whose label is the most frequent one of their group.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import quackllm
from benchmarks.dedup.tables import folder
from quackllm.clustering.choice import choose_k
from quackllm.clustering.directions import unit
from quackllm.clustering.kmeans import kmeans

SOURCES = {
    "ag_news": ("ag_news_test", "title", "label", 4),
    "snips": ("snips", "text", "intent", 7),
    "banking77, 10 intents": ("banking77", "text", "intent", 10),
    "clinc150, 12 intents": ("clinc150", "text", "intent", 12),
}
"""Sets: table, text, label, and how many labels are taken."""


def purity(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the share of texts that have the most frequent label of their group; (n,) each."""
    counts = np.zeros((groups.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (groups, labels), 1)
    return float(counts.max(axis=1).sum() / len(labels))


def sample(table: str, text: str, label: str, labels: int, texts: int) -> str:
    """Write a SELECT of distinct texts with one of so many labels."""
    source = f"'{folder()}/{table}.parquet'"
    some = f"SELECT {label} FROM {source} GROUP BY {label} ORDER BY hash({label}) LIMIT {labels}"
    return (
        f"SELECT {text} AS text, min({label}) AS label FROM {source} WHERE {label} IN ({some}) "
        f"GROUP BY {text} ORDER BY hash({text}) LIMIT {texts}"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--cache", type=Path, help="where embeddings are kept")
    given = parser.parse_args()
    print("| set | labels | groups chosen | purity | purity, k = labels |")
    print("|---|---|---|---|---|")
    with quackllm.connect(
        cache_path=str(given.cache or ":memory:"),
        progress=False,
        embedding_model="all-MiniLM-L6-v2",
    ) as connection:
        for name, (table, text, label, count) in SOURCES.items():
            select = sample(table, text, label, count, given.texts)
            rows = connection.execute(
                f"SELECT label, LLM_EMBED(text) FROM ({select}) ORDER BY text"
            ).fetchall()
            labels = np.unique([str(row[0]) for row in rows], return_inverse=True)[1]
            vectors = unit(np.array([row[1] for row in rows], np.float32))
            chosen = choose_k(vectors)
            free, fixed = (purity(kmeans(vectors, k).labels, labels) for k in (chosen, count))
            print(f"| {name} | {count} | {chosen} | {free:.2f} | {fixed:.2f} |", flush=True)


if __name__ == "__main__":
    main()
