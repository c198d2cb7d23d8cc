"""How right a value is: from 0 to 1, by labels that no system is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.peers.exchange import number_in


@dataclass(frozen=True)
class Truth:
    """The table with its labels, and what a system made of it (`Done.value`)."""

    table: pa.Table
    value: Any


Quality = Callable[[Truth], float | None]
"""How right a value is; None where nothing tells."""


def unknown(truth: Truth) -> float | None:
    """Nothing tells how right the value is."""
    return None


def decided(truth: Truth, condition: str) -> float | None:
    """Return the share of rows that a filter decided rightly."""
    right = _ids(truth.table, condition)
    passed = set(map(str, truth.value))
    rows = truth.table["id"].to_pylist()
    return sum((str(row) in right) == (str(row) in passed) for row in rows) / len(rows)


def precise(truth: Truth, condition: str) -> float | None:
    """Return the share of the rows that came back which should have; 0 when none did."""
    right = _ids(truth.table, condition)
    passed = list(map(str, truth.value))
    return sum(row in right for row in passed) / len(passed) if passed else 0.0


def counted(truth: Truth, condition: str, share: bool = False) -> float | None:
    """Return 1 less the relative error of a count (of a share of the rows), at least 0."""
    by_label = isinstance(truth.value, list)
    said = float(dict(truth.value).get("POSITIVE", 0) if by_label else truth.value)
    right = len(_ids(truth.table, condition)) / (truth.table.num_rows if share else 1)
    return max(0.0, 1 - abs(said - right) / right)


def ranked(truth: Truth, by: str, truth_sql: str) -> float | None:
    """Return Spearman's rank correlation of the numbers per key with the true ones.

    None when all numbers are the same: then they rank nothing.
    """
    with duckdb.connect() as con:
        con.register("t", truth.table)
        query = f'SELECT "{by}"::VARCHAR, {truth_sql} FROM t GROUP BY ALL'
        right = dict(con.execute(query).fetchall())
    pairs = [
        (number, float(right[str(key)]))
        for key, answer in truth.value
        if (number := number_in(answer)) is not None and right.get(str(key)) is not None
    ]
    if len(pairs) < 2:
        return None
    said, true = (_ranks(np.array(column)) for column in zip(*pairs, strict=True))
    if said.std() == 0 or true.std() == 0:
        return None
    return float(np.corrcoef(said, true)[0, 1])


def contained(truth: Truth, answers: str) -> float | None:
    """Return the share of rows whose answer has one of the right ones in it."""
    rows = truth.table.select(["id", answers]).to_pylist()
    said = {str(key): str(answer).lower() for key, answer in truth.value}
    hits = [
        any(right.lower() in said.get(str(row["id"]), "") for right in _texts(row[answers]))
        for row in rows
    ]
    return sum(hits) / len(hits)


def _texts(value: Any) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else [str(value)]


def _ids(table: pa.Table, condition: str) -> set[str]:
    with duckdb.connect() as con:
        con.register("t", table)
        found = con.execute(f"SELECT id::VARCHAR FROM t WHERE {condition}").fetchall()
    return {row for (row,) in found}


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ranks, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_ranks: np.ndarray[Any, Any] = (ends - (counts - 1) / 2)[inverse]
    return mean_ranks
