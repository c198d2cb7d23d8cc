"""Entity-resolution tables as one table each, with the clusters that are right."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from quackllm.clustering.closure import components

TEXTS = {
    "abt_buy": "name",
    "amazon_google": "title",
    "dblp_acm": "concat_ws(', ', title, authors, venue, year)",
}
"""Tables, and what is compared of a row."""


@dataclass(frozen=True)
class Dirty:
    """The rows of two tables with matches between them, as one table with duplicates.

    texts: of n rows. truth: (n,), the cluster of each, by its smallest row.
    """

    name: str
    texts: tuple[str, ...]
    truth: NDArray[np.int64]


def folder() -> Path:
    """Return where the tables are. Raises SystemExit when they are not there."""
    found = Path(os.environ.get("QUACKLLM_BENCH_DATA", "../shared/data")) / "tables"
    if not found.is_dir():
        raise SystemExit(
            f"no tables in {found}: QUACKLLM_BENCH_DATA names the folder whose folder 'tables' has "
            "er_abt_buy_a.parquet and its like"
        )
    return found


def load(name: str, matches: int | None) -> Dirty:
    """Load a table, or of it the rows of so many matches, and as many others."""
    place = folder()
    connection = duckdb.connect()

    def side(letter: str) -> str:
        return (
            f"SELECT '{letter}' || id AS id, {TEXTS[name]} AS text "
            f"FROM '{place}/er_{name}_{letter}.parquet'"
        )

    gold = connection.sql(
        f"SELECT 'a' || id_a AS a, 'b' || id_b AS b FROM '{place}/er_{name}_gt.parquet' "
        "ORDER BY hash(a), b"
    ).fetchall()[:matches]
    rows = connection.sql(f"{side('a')} UNION ALL {side('b')} ORDER BY hash(id)").fetchall()
    if matches is not None:
        matched = {each for pair in gold for each in pair}
        others = [row for row in rows if row[0] not in matched][: len(matched)]
        rows = [row for row in rows if row[0] in matched] + others
    at = {row[0]: place for place, row in enumerate(rows)}
    pairs = np.array([(at[a], at[b]) for a, b in gold if a in at and b in at], np.int64)
    truth = components(len(rows), pairs[:, 0], pairs[:, 1])
    return Dirty(name, tuple(row[1] for row in rows), truth)
