"""OPHR: the best field order for a handful of rows, by trying everything.

"Optimal Prefix Hit Recursion" of "Optimizing LLM Queries in Relational Data Analytics
Workloads" (MLSys 2025, arXiv 2403.05821): some value comes first; its rows and the
others are then independent. Columns that are constant in a group go first without a
search, and sub-tables met before are not searched again.
"""

from __future__ import annotations

import numpy as np

from quackllm.kvcache_reorder.baselines import Layout
from quackllm.kvcache_reorder.encode import Encoded

MOST_ROWS = 16
"""Above this many rows the search takes minutes and more."""


def ophr(table: Encoded) -> tuple[int, Layout]:
    """The largest reuse, in units of whole fragments, and a layout that reaches it.

    Prefixes shared in part are not counted. Exponential in rows and columns: raises
    ValueError for more than 16 rows.
    """
    if table.rows > MOST_ROWS:
        raise ValueError(f"OPHR is exponential: at most {MOST_ROWS} rows, not {table.rows}")
    search = _Search(table)
    rows, columns = tuple(range(table.rows)), tuple(range(table.columns))
    best = search.best(rows, columns)
    orders = np.tile(np.arange(table.columns), (table.rows, 1))
    search.fill(rows, columns, 0, orders)
    return best, Layout(orders, np.arange(table.rows))


class _Search:
    def __init__(self, table: Encoded) -> None:
        flat = table.codes + table.offsets[:-1, None]
        self.value: list[list[int]] = flat.T.tolist()
        self.length: list[int] = table.length.tolist()
        self.seen: dict[
            tuple[tuple[int, ...], tuple[int, ...]], tuple[int, tuple[int, int] | None]
        ] = {}

    def constants(
        self, rows: tuple[int, ...], columns: tuple[int, ...]
    ) -> tuple[list[int], tuple[int, ...]]:
        """Columns with one value in these rows, and the others."""
        first = self.value[rows[0]]
        same = [c for c in columns if all(self.value[r][c] == first[c] for r in rows)]
        return same, tuple(c for c in columns if c not in same)

    def best(self, rows: tuple[int, ...], columns: tuple[int, ...]) -> int:
        """The most units that these rows can reuse by these columns."""
        if len(rows) < 2:
            return 0
        same, left = self.constants(rows, columns)
        sure = sum(self.length[self.value[rows[0]][c]] for c in same) * (len(rows) - 1)
        if (rows, left) not in self.seen:
            self.seen[rows, left] = self._search(rows, left)
        return sure + self.seen[rows, left][0]

    def _search(
        self, rows: tuple[int, ...], columns: tuple[int, ...]
    ) -> tuple[int, tuple[int, int] | None]:
        """The most reuse and the value (flat code, column) that has to come first for it."""
        most, choice = 0, None
        for column in columns:
            groups: dict[int, list[int]] = {}
            for row in rows:
                groups.setdefault(self.value[row][column], []).append(row)
            left = tuple(c for c in columns if c != column)
            for value, group in groups.items():
                if len(group) < 2:
                    continue
                others = tuple(r for r in rows if self.value[r][column] != value)
                reuse = self.length[value] * (len(group) - 1)
                reuse += self.best(tuple(group), left) + self.best(others, columns)
                if reuse > most:
                    most, choice = reuse, (value, column)
        return most, choice

    def fill(
        self,
        rows: tuple[int, ...],
        columns: tuple[int, ...],
        at: int,
        orders: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    ) -> None:
        """Write the order of fields that reaches `best` from position `at` on."""
        if len(rows) < 2:
            for row in rows:
                orders[row, at:] = columns
            return
        same, left = self.constants(rows, columns)
        for row in rows:
            orders[row, at : at + len(same)] = same
            orders[row, at + len(same) :] = left
        at += len(same)
        choice = self.seen[rows, left][1]
        if choice is None:
            return
        value, column = choice
        group = tuple(r for r in rows if self.value[r][column] == value)
        for row in group:
            orders[row, at] = column
        self.fill(group, tuple(c for c in left if c != column), at + 1, orders)
        self.fill(tuple(r for r in rows if r not in group), left, at, orders)
