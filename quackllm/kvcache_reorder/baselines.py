"""What others do: the order as given, one fixed order, and GGR.

Source of the last two: "Optimizing LLM Queries in Relational Data Analytics
Workloads" (MLSys 2025, arXiv 2403.05821), Algorithm 1 and section 4.2, with the limits
of the authors' own benchmark as defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder.encode import Encoded


@dataclass(frozen=True)
class Layout:
    """An order of fields for every row: `orders[of[r]]` for row r; shapes (k, m) and (n,)."""

    orders: NDArray[np.int64]
    of: NDArray[np.int64]


@dataclass(frozen=True)
class GgrLimits:
    """Where GGR stops early and falls back to a fixed order.

    `hits`: least prefix hit count (characters squared) of a value worth a step.
    `rows`, `columns`: depth of the row and column recursion. `distinct`: columns with
    more distinct values than this share of the rows stay out and come last. `chunk`:
    tables are halved, after a sort, until they have no more rows than this.
    """

    hits: float = 100_000.0
    rows: int = 4
    columns: int = 2
    distinct: float = 0.7
    chunk: int = 2000


def original(table: Encoded) -> Layout:
    """All rows show their fields in the order of the input."""
    return Layout(np.arange(table.columns)[None, :], np.zeros(table.rows, np.int64))


def fixed(table: Encoded) -> Layout:
    """All rows show their fields in one order, by column statistics.

    The paper's fallback: columns descend by mean length squared times the average
    number of rows, less one, that share a value; ties by column number.
    """
    order = _by_statistics(table, np.arange(table.rows), np.arange(table.columns))
    return Layout(order[None, :], np.zeros(table.rows, np.int64))


def _by_statistics(
    table: Encoded, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`columns` in the order of the fixed reordering of these rows."""
    if columns.size == 0 or rows.size == 0:
        return columns
    score = np.empty(len(columns))
    for index, column in enumerate(columns.tolist()):
        code = table.codes[column, rows]
        low = table.offsets[column]
        distinct = table.distinct[column]
        if len(rows) < table.rows:
            code = np.sort(code)
            distinct = 1 + np.count_nonzero(code[1:] != code[:-1])
        score[index] = table.characters[low + code].mean() ** 2 * (len(rows) / distinct - 1)
    return columns[np.argsort(-score, kind="stable")]


def ggr(table: Encoded, dependencies: NDArray[np.bool_], limits: GgrLimits | None = None) -> Layout:
    """Greedy group recursion.

    Each step takes the value with the highest hit count: its length squared, plus
    those of the columns it determines (`dependencies` (m, m)), times its other rows.
    The rows that have it put it first and recurse without its column; so do the other
    rows with all columns. Ties go to the lower column, then to the lower value.
    """
    limits = limits or GgrLimits()
    run = _Ggr(table, dependencies, limits)
    every = np.arange(table.columns)
    out = table.distinct > table.rows * limits.distinct
    ranked = _by_statistics(table, np.arange(table.rows), every) if table.rows else every
    run.last = ranked[out[ranked]]
    kept = ranked[~out[ranked]]
    rows = np.lexsort(table.codes[kept[::-1]]) if kept.size else np.arange(table.rows)
    for chunk in _halves(rows, limits.chunk):
        run.recurse(chunk, kept)
    orders = np.array(run.orders, np.int64).reshape(-1, table.columns)
    return Layout(orders, run.of)


def _halves(rows: NDArray[np.int64], chunk: int) -> list[NDArray[np.int64]]:
    if len(rows) <= chunk:
        return [rows]
    middle = len(rows) // 2
    return _halves(rows[:middle], chunk) + _halves(rows[middle:], chunk)


class _Ggr:
    def __init__(self, table: Encoded, dependencies: NDArray[np.bool_], limits: GgrLimits) -> None:
        self.table = table
        self.dependencies = dependencies
        self.limits = limits
        self.last = np.zeros(0, np.int64)
        self.orders: list[NDArray[np.int64]] = []
        self.of = np.zeros(table.rows, np.int64)
        squares = table.characters.astype(np.float64) ** 2
        self._squares = squares
        self._column = np.repeat(np.arange(table.columns), table.distinct)
        self._inferred = {
            (a, b): squares[table.offsets[b] + self._image(a, b)]
            for a, b in np.argwhere(dependencies).tolist()
        }

    def _image(self, a: int, b: int) -> NDArray[np.int32]:
        """The value of column b that comes with each value of column a, shape (distinct a,)."""
        image = np.zeros(int(self.table.distinct[a]), np.int32)
        image[self.table.codes[a]] = self.table.codes[b]
        return image

    def recurse(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Order these rows by these columns; a stack, for depth may be the number of rows."""
        stack = [(rows, columns, np.zeros(0, np.int64), 0, 0)]
        while stack:
            rows, columns, prefix, down, right = stack.pop()
            if rows.size == 0:
                continue
            deep = down >= self.limits.rows or right >= self.limits.columns
            best = None if deep or columns.size == 0 else self._best(rows, columns)
            if best is None:
                rest = _by_statistics(self.table, rows, columns) if columns.size else columns
                self.of[rows] = len(self.orders)
                self.orders.append(np.concatenate([prefix, rest, self.last]))
                continue
            column, code = best
            with_value = self.table.codes[column, rows] == code
            inferred = columns[self.dependencies[column, columns]]
            first = np.append(column, inferred)
            left = columns[~np.isin(columns, first)]
            stack.append((rows[~with_value], columns, prefix, down + 1, right))
            stack.append((rows[with_value], left, np.concatenate([prefix, first]), down, right + 1))

    def _best(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[int, int] | None:
        """The value with the highest hit count as (column, rank), None below the limit."""
        table = self.table
        flat = table.codes[columns[:, None], rows[None, :]] + table.offsets[columns][:, None]
        flat = np.sort(flat.ravel())
        heads = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
        count = np.diff(np.append(heads, len(flat)))
        values = flat[heads]
        hits = self._squares[values]
        for (a, b), squares in self._inferred.items():
            if a in columns and b in columns:
                low, high = np.searchsorted(values, table.offsets[[a, a + 1]])
                hits[low:high] += squares[values[low:high] - table.offsets[a]]
        hits *= count - 1
        best = int(hits.argmax())
        if hits[best] < self.limits.hits or count[best] < 2:
            return None
        column = int(self._column[values[best]])
        return column, int(values[best] - table.offsets[column])


def pinned_first(layout: Layout, pinned: NDArray[np.int64]) -> Layout:
    """The same layout with the `pinned` columns in front of all others."""
    if pinned.size == 0:
        return layout
    keep = layout.orders[~np.isin(layout.orders, pinned)]
    rest = keep.reshape(len(layout.orders), layout.orders.shape[1] - pinned.size)
    front = np.tile(pinned, (len(layout.orders), 1))
    return Layout(np.concatenate([front, rest], axis=1), layout.of)
