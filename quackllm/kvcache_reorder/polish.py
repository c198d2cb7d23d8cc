"""Ruin and recreate: rows leave a finished layout and come back where they share most.

A tree splits all rows of a node by one column, so a row that would share more under
another column of another node cannot get there. Here some rows are taken out, and one
by one each takes over the order of fields of the row it then shares most with; what
that row shares with nobody so far may be rearranged for the newcomer. A round that
makes the layout worse is undone. The scheme is that of large neighbourhood search
(Schrimpf et al., "Record Breaking Optimization Results Using the Ruin and Recreate
Principle", 2000), with an exact value for every insertion.

An insertion looks at all rows and a round moves a few of them, so this is for tables of
some hundred rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder.baselines import Layout
from quackllm.kvcache_reorder.encode import Encoded
from quackllm.kvcache_reorder.prefix import sorted_prefixes
from quackllm.kvcache_reorder.search import Budget
from quackllm.kvcache_reorder.tree import Reuse

MOST_ROWS = 1000
"""Above this many rows a round meets too few that are better off elsewhere."""

_STEP = 2500
"""What an insertion costs whatever the size of the table, in cells."""

_LEAST_OUT, _MOST_OUT = 4, 16
"""Rows that leave in a round."""

_PATIENCE = 3
"""Rounds without a gain, per row of the table, after which no more is expected."""


def insertion_cells(table: Encoded) -> float:
    """What one insertion costs, in cells of a tree."""
    return float(_STEP + table.rows * table.columns)


def polish(
    table: Encoded, reuse: Reuse, layout: Layout, budget: Budget, pinned: Sequence[int] = ()
) -> Layout:
    """A layout that is worth as much as this one or more, as far as the budget goes.

    Ends early when three rounds for each row have brought nothing. `pinned` columns are in
    front in all rows of `layout` and stay there.
    """
    if table.rows < 2 * _LEAST_OUT:
        return layout
    paths = _Paths(table, reuse, layout.orders[layout.of], len(pinned))
    random = np.random.default_rng(0)
    most = min(_MOST_OUT, table.rows // 2)
    worth, idle = paths.worth, 0
    while budget.cells > 0 and idle < _PATIENCE * table.rows:
        size = int(random.integers(_LEAST_OUT, most + 1))
        paths.round(paths.pick(size, random))
        worth, idle = (paths.worth, 0) if paths.worth > worth else (worth, idle + 1)
        budget.spend((size + 2) * insertion_cells(table))
    return Layout(paths.orders, np.arange(table.rows))


class _Paths:
    """The order of fields of every row, and how much of it other rows share.

    `present` (n,): rows that are in. `orders` (n, m): columns in prompt order. `flat`
    (n, m): flat code of each column, `shown` the same in prompt order. `own` (n,): the
    longest prefix, in units, that each row shares with another row that is in. `fixed`
    (n,): fields in that prefix, the last one perhaps in part; the others may change places.
    """

    def __init__(
        self, table: Encoded, reuse: Reuse, orders: NDArray[np.int64], pinned: int
    ) -> None:
        self.table, self.reuse, self.pinned = table, reuse, pinned
        self.flat = np.ascontiguousarray((table.codes + table.offsets[:-1, None]).T)
        self.length = table.length[self.flat]
        self.orders = orders
        self.shown = np.take_along_axis(self.flat, orders, axis=1)
        self.rows, self.prefix = self._sorted()
        self.worth = self._worth(self.prefix)
        self.present = np.ones(table.rows, bool)
        self.own = np.zeros(table.rows, np.int64)
        self.fixed = np.full(table.rows, pinned)

    def pick(self, size: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Rows to take out, in the order of coming back: any, or such as have much in common."""
        n = self.table.rows
        if random.random() < 0.5:
            return random.permutation(n)[:size]
        seed = int(random.integers(n))
        alike = (self.flat == self.flat[seed]) @ self.length[seed] * np.sqrt(random.random(n))
        return random.permutation(np.argsort(-alike, kind="stable")[:size])

    def round(self, out: NDArray[np.int64]) -> None:
        """Take these rows out and put them back, unless all rows together lose by it."""
        before = self.orders.copy(), self.shown.copy()
        self._leave(out)
        for row in out.tolist():
            self._insert(row)
        rows, prefix = self._sorted()
        worth = self._worth(prefix)
        if worth >= self.worth:
            self.rows, self.prefix, self.worth = rows, prefix, worth
        else:
            self.orders, self.shown = before

    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return sorted_prefixes(self.table, self.orders, np.arange(self.table.rows))

    def _worth(self, prefix: NDArray[np.int64]) -> float:
        return float(self.reuse(prefix[1:]).sum())

    def _leave(self, out: NDArray[np.int64]) -> None:
        """Take rows out, and see what the others share with each other."""
        self.present[out] = False
        stay = np.flatnonzero(self.present[self.rows])
        # Between two rows that stay, the shortest prefix on the way is what they share.
        between = np.minimum.reduceat(self.prefix[: stay[-1] + 1], stay[:-1] + 1)
        self.own[:] = 0
        self.own[self.rows[stay]] = np.maximum(np.append(between, 0), np.append(0, between))
        length = np.take_along_axis(self.length, self.orders, axis=1)
        begins = np.cumsum(length, axis=1) - length
        self.fixed = np.maximum((begins < self.own[:, None]).sum(axis=1), self.pinned)

    def _insert(self, row: int) -> None:
        """Give this row the order of fields of the one it shares most with."""
        orders, m = self.orders, self.table.columns
        mine = self.flat[row][orders]
        same = self.shown == mine
        differs = ~same & (np.arange(m) < self.fixed[:, None])
        breaks = differs.any(axis=1)
        at = np.where(breaks, differs.argmax(axis=1), m - 1)
        whole = np.cumsum(np.where(same, self.length[row][orders], 0), axis=1)
        shared = whole[np.arange(len(at)), at]
        # A row that breaks can share the field at which it does; the others any free one.
        place = ~same & (np.arange(m) >= np.where(breaks, at, self.fixed)[:, None])
        place &= (np.arange(m) == at[:, None]) | ~breaks[:, None]
        place &= self.present[:, None]
        line, column = np.nonzero(place)
        a, b = self.shown[line, column], mine[line, column]
        part = np.zeros(mine.shape, np.int64)
        part[line, column] = self.table.common(np.minimum(a, b), np.maximum(a, b))
        shared += part.max(axis=1)
        shared[~self.present] = -1
        worth = np.where(self.present, self.reuse(shared), -1)
        best = int(np.where(worth == worth.max(), shared, -1).argmax())
        if not breaks[best]:
            self._make_room(best, same[best], part[best], int(shared[best]))
        self._place(row, orders[best], int(shared[best]))
        self.present[row] = True

    def _make_room(
        self, row: int, same: NDArray[np.bool_], part: NDArray[np.int64], shared: int
    ) -> None:
        """Move what this row shares with a newcomer in front of its other free fields."""
        free = int(self.fixed[row])
        rank = np.where(same[free:], 0, 2)
        if part.max() > 0:
            rank[int(part[free:].argmax())] = 1
        order = self.orders[row].copy()
        order[free:] = order[free:][np.argsort(rank, kind="stable")]
        self._place(row, order, max(int(self.own[row]), shared))

    def _place(self, row: int, order: NDArray[np.int64], own: int) -> None:
        self.orders[row] = order
        self.shown[row] = self.flat[row, order]
        self.own[row] = own
        length = self.length[row, order]
        ends = int(np.searchsorted(np.cumsum(length) - length, own))
        self.fixed[row] = max(ends, self.pinned)
