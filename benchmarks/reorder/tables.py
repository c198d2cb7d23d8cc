"""The tables of the benchmark: published samples, where they are, and generated ones."""

from __future__ import annotations

import csv
import os
import random
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

Table = dict[str, list[str]]

MISSING = """The benchmark data is not here: {path}
Set QUACKLLM_BENCH_DATA to a folder that has paper_samples/beer.csv and the others, the
samples of the published prefix-reordering benchmarks (UCB-ADRS, LLM-SQL)."""

MERGED = {"beer": ("beer/name", "beer/beerId")}
"""Functional-dependency groups that count as one text column, as published."""


def data_folder() -> Path:
    """The folder of the benchmark data; ends the program with advice when there is none."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("QUACKLLM_BENCH_DATA", beside))
    if not (folder / "paper_samples" / "beer.csv").exists():
        sys.exit(MISSING.format(path=folder))
    return folder


def published(name: str) -> Table:
    """A published sample, all values as texts, rows shuffled with a fixed seed."""
    csv.field_size_limit(1 << 30)
    path = data_folder() / "paper_samples" / f"{name}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = list(csv.reader(file))
    random.Random(0).shuffle(rows)
    table = {column: [row[i] for row in rows] for i, column in enumerate(names)}
    if group := MERGED.get(name):
        parts = [table.pop(column) for column in group]
        table["_".join(group)] = ["".join(values) for values in zip(*parts, strict=True)]
    return table


def beer_like(rows: int) -> pa.Table:
    """Reviews of beers: 8 columns, popular products and users, a style per product."""
    draw = np.random.default_rng(0)
    beers, users = max(10, rows // 20), max(10, rows // 6)
    beer = (beers * draw.random(rows) ** 2).astype(int)
    user = (users * draw.random(rows) ** 2).astype(int)
    style, brewery = draw.integers(0, 80, beers), draw.integers(0, beers // 5 + 1, beers)
    overall, taste, palate, look = (draw.integers(1, k + 1, rows) for k in (20, 10, 5, 5))
    return pa.table(
        {
            "review/profileName": [f"user{u}" for u in user],
            "review/time": [str(1_000_000_000 + 86_400 * d) for d in draw.integers(0, 3700, rows)],
            "review/overall": [f"{v}/20" for v in overall],
            "review/taste": [f"{v}/10" for v in taste],
            "review/palate": [f"{v}/5" for v in palate],
            "review/appearance": [f"{v}/5" for v in look],
            "beer/name": [f"Brewery {brewery[b]} Ale no {b}" for b in beer],
            "beer/style": [f"Style number {style[b]}" for b in beer],
        }
    )
