"""The conditional prefix tree: which field comes next, given the fields before it.

A node is a set of rows whose prompts are equal so far. Each round looks at all open
nodes together: columns that are constant in a node go to its prefix at once (values
that always come together, functional dependencies among them, need no other care);
then each node either splits by the column its policy prefers, or, when no value
occurs twice in any column left, takes the column with the best partial prefix and
closes. Rounds are a few sorts over all rows, whatever the number of nodes.

The idea of choosing the order of fields per group of rows is that of GGR ("Optimizing
LLM Queries in Relational Data Analytics Workloads", MLSys 2025); splitting a node by
all values of a column instead of one value, for all nodes at once, is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder._nodes import Splits, ranges, splits
from quackllm.kvcache_reorder.encode import Encoded

Reuse = Callable[["NDArray[np.int64]"], "NDArray[Any]"]
"""What prefixes of these lengths (units) are worth."""

_ROUND = 10_000
"""What a round costs whatever the number of rows, in cells."""

_FREE = 1 << 30
"""Place of a field that has none yet: behind all that have."""


@dataclass(frozen=True)
class Policy:
    """How a node chooses its column: the most units saved per `distinct ** beta`.

    A high `beta` keeps columns of many values for later. `partial` counts prefixes
    that different values share. With `leave`, rows whose value is unique in the node
    do not follow the column but choose again among themselves.
    """

    beta: float = 0.5
    partial: bool = False
    leave: bool = False

    @property
    def label(self) -> str:
        """A short name for EXPLAIN."""
        extra = (", partial" if self.partial else "") + (", leave" if self.leave else "")
        return f"(beta {self.beta:g}{extra})"


@dataclass(frozen=True)
class Frontier:
    """Open nodes, each with two rows or more.

    `rows` (k,) grouped by node, `slots` (k,) where each one's result is recorded,
    `sizes` (q,). Per node: `place` (q, m) of each field, `live` (q, m) whether a value
    may still occur twice, `base` (q,) units of the prefix, `root` (q,) whose policy
    and account it is, `forced` (q,) the column to split by, -1 for a free choice,
    `least` (q,) the rows that a group needs to follow that split, 0 for the policy's.
    Rows that left a column keep it as `home` (q,), -1 for none, with the place it
    would have (`home_place`), the units that returning has ahead of what they have
    won elsewhere (`home_gain`) and the worth of returning (`home_worth`).
    """

    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    sizes: NDArray[np.int64]
    place: NDArray[np.int32]
    live: NDArray[np.bool_]
    base: NDArray[np.int64]
    root: NDArray[np.int64]
    forced: NDArray[np.int64]
    least: NDArray[np.int64]
    home: NDArray[np.int64]
    home_place: NDArray[np.int64]
    home_gain: NDArray[np.int64]
    home_worth: NDArray[Any]

    def take(self, nodes: NDArray[np.int64]) -> Frontier:
        """These nodes, in this order, as often as they are named."""
        sizes = self.sizes[nodes]
        at = ranges((np.cumsum(self.sizes) - self.sizes)[nodes], sizes)
        return Frontier(
            self.rows[at], self.slots[at], sizes,
            self.place[nodes], self.live[nodes], self.base[nodes], self.root[nodes],
            self.forced[nodes], self.least[nodes],
            self.home[nodes], self.home_place[nodes], self.home_gain[nodes], self.home_worth[nodes],
        )  # fmt: skip

    def thin(self, most: int) -> Frontier:
        """The same nodes with at most `most` rows each, evenly spaced."""
        sizes = np.minimum(self.sizes, most)
        begin = np.cumsum(self.sizes) - self.sizes
        step = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        spread = step * np.repeat(self.sizes, sizes) // np.repeat(sizes, sizes)
        at = np.repeat(begin, sizes) + spread
        return replace(self, rows=self.rows[at], slots=self.slots[at], sizes=sizes)


def joined(parts: Sequence[Frontier]) -> Frontier:
    """The nodes of all parts, one part after another."""
    names = [field.name for field in fields(Frontier)]
    return Frontier(**{k: np.concatenate([getattr(part, k) for part in parts]) for k in names})


def roots(table: Encoded, count: int, pinned: Sequence[int] = ()) -> Frontier:
    """All rows `count` times, as the roots of as many trees; slots in the same order.

    With `pinned` columns, which come first in all rows, each root starts as one node
    per combination of their values. Rows that are alone with theirs are in no node:
    nothing that follows can be reused, so any order of the other fields will do.
    """
    n, m = table.rows, table.columns
    rows, sizes, base = _pinned_groups(table, pinned)
    place = np.full((len(sizes) * count, m), _FREE, np.int32)
    place[:, list(pinned)] = np.arange(len(pinned)) - len(pinned)
    live = np.tile(table.distinct < n, (len(place), 1))
    none = np.full(len(place), -1)
    return Frontier(
        rows=np.tile(rows, count),
        slots=(rows + n * np.arange(count)[:, None]).ravel(),
        sizes=np.tile(sizes, count),
        place=place,
        live=live & (place == _FREE),
        base=np.tile(base, count),
        root=np.repeat(np.arange(count), len(sizes)),
        forced=none,
        least=np.zeros(len(place), np.int64),
        home=none,
        home_place=none,
        home_gain=np.zeros(len(place), np.int64),
        home_worth=np.zeros(len(place)),
    )


def _pinned_groups(
    table: Encoded, pinned: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows grouped by equal pinned values, sizes of groups, units they have in common.

    Groups of one row are left out.
    """
    group = np.zeros(table.rows, np.int64)
    length = np.zeros(table.rows, np.int64)
    for column in pinned:
        key = group * (int(table.distinct[column]) + 1) + table.codes[column]
        group = np.unique(key, return_inverse=True)[1].reshape(-1)
        length += table.length[table.offsets[column] + table.codes[column]]
    size = np.bincount(group, minlength=1) if table.rows else np.zeros(0, np.int64)
    rows = np.argsort(group, kind="stable")
    rows = rows[size[group[rows]] > 1]
    many = size > 1
    first = np.cumsum(size[many]) - size[many]
    return rows, size[many], length[rows[first]]


class Growth:
    """Grows trees from a frontier, round by round, and keeps their accounts.

    `worth` (roots,) is the worth of all prefixes reused so far below each root,
    the first row of a root reusing nothing. `layout` (slots,) and `orders()` (k, m)
    say, once all nodes have closed, in which order each row shows its fields; with 0
    slots only the worth is kept.
    """

    def __init__(
        self,
        table: Encoded,
        reuse: Reuse,
        policies: Sequence[Policy],
        slots: int,
        pinned: Sequence[int] = (),
    ) -> None:
        self.table = table
        self.reuse = reuse
        self.beta = np.array([policy.beta for policy in policies])
        self.partial = np.array([policy.partial for policy in policies], bool)
        self.leave = np.array([policy.leave for policy in policies], bool)
        self.worth = np.zeros(len(policies))
        # Order 0 is for rows that never were in a node.
        self.layout = np.zeros(slots, np.int64)
        self.cells = 0
        first = np.full((1, table.columns), _FREE, np.int32)
        first[:, list(pinned)] = np.arange(len(pinned)) - len(pinned)
        self._places = [first]
        self._leaves = 1
        self._round = 0
        self._closing: list[Frontier] = []

    def run(self, frontier: Frontier) -> None:
        """Grow until every node has closed."""
        while frontier.sizes.size:
            frontier, gains = self.settle(frontier)
            frontier = self.advance(frontier, gains, self.choose(frontier, gains))
        self.finish()

    def finish(self) -> None:
        """End the nodes that wait for it: all together, for that is a few sorts less a round."""
        if self._closing:
            nodes, self._closing = joined(self._closing), []
            self._close(nodes)

    def orders(self) -> NDArray[np.int64]:
        """The orders of fields that `layout` refers to, shape (k, m)."""
        return np.argsort(np.concatenate(self._places), axis=1, kind="stable")

    def settle(self, frontier: Frontier) -> tuple[Frontier, Splits]:
        """Put constant columns into prefixes and see what the other columns would bring."""
        table, place = self.table, frontier.place
        free = place == _FREE
        wanted = frontier.live & free
        self.cells += _ROUND + int(((wanted.sum(axis=1) + 2) * frontier.sizes).sum())
        partial = bool(self.partial[frontier.root].any())
        gains = splits(table, frontier.rows, frontier.sizes, wanted, partial)
        node, column = np.nonzero(free & (gains.distinct == 1))
        self._round += 2
        place = place.copy()
        place[node, column] = self._round
        starts = np.cumsum(frontier.sizes) - frontier.sizes
        code = table.codes[column, frontier.rows[starts[node]]]
        added: NDArray[np.int64] = _sums(
            node, table.length[table.offsets[column] + code], len(frontier.sizes)
        )
        base, home_gain = frontier.base + added, frontier.home_gain - added * (frontier.sizes - 1)
        live = frontier.live & (place == _FREE) & (gains.equal > 0)
        settled = replace(frontier, place=place, base=base, live=live, home_gain=home_gain)
        return settled, gains

    def choose(self, frontier: Frontier, gains: Splits) -> NDArray[np.int64]:
        """The column each node splits by, -1 for nodes that close now, shape (q,)."""
        root, nodes = frontier.root, np.arange(len(frontier.sizes))
        gain = gains.equal + np.where(self.partial[root][:, None], gains.partial, 0)
        score = np.where(frontier.live, gain / gains.distinct ** self.beta[root][:, None], -1.0)
        best = score.argmax(axis=1)
        closes = score[nodes, best] < 0
        closes |= (frontier.home >= 0) & (gain[nodes, best] < frontier.home_gain)
        forced = np.maximum(frontier.forced, 0)
        use = (frontier.forced >= 0) & (frontier.place[nodes, forced] == _FREE)
        return np.where(use, forced, np.where(closes, -1, best))

    def advance(self, frontier: Frontier, gains: Splits, choice: NDArray[np.int64]) -> Frontier:
        """Close the nodes whose choice is -1, split the others, return their children."""
        closing, opening = np.flatnonzero(choice < 0), np.flatnonzero(choice >= 0)
        if closing.size:
            self._closing.append(frontier.take(closing))
        return self._split(frontier.take(opening), choice[opening])

    def _close(self, nodes: Frontier) -> None:
        """End these nodes with the column that shares most between different values."""
        table, count = self.table, len(nodes.sizes)
        free = nodes.place == _FREE
        gains = splits(table, nodes.rows, nodes.sizes, free, True)
        total = np.where(free, gains.equal + gains.partial, -1)
        best = total.argmax(axis=1)
        most = total[np.arange(count), best]
        returns = (nodes.home >= 0) & (np.maximum(most, 0) <= nodes.home_gain)
        self.worth += _sums(nodes.root, np.where(returns, nodes.home_worth, 0), len(self.worth))
        best = np.where(returns, nodes.home, best)
        place = nodes.place.copy()
        ends = np.flatnonzero((most >= 0) | returns)
        place[ends, best[ends]] = np.where(returns, nodes.home_place, self._round + 1)[ends]
        self._record(nodes.slots, np.repeat(np.arange(count), nodes.sizes), place)

        full = nodes.take(np.flatnonzero((most < 0) & ~returns))
        repeats = self.reuse(full.base) * (full.sizes - 1)
        self.worth += _sums(full.root, repeats, len(self.worth))
        stays = np.flatnonzero((most >= 0) & ~returns)
        if stays.size:
            part = nodes.take(stays)
            node, flat, _ = self._by_code(part, best[stays])
            inner = np.flatnonzero(node[1:] == node[:-1]) + 1
            same = flat[inner] == flat[inner - 1]
            shared = np.empty(len(inner), np.int64)
            shared[same] = table.length[flat[inner[same]]]
            apart = inner[~same]
            shared[~same] = table.common(flat[apart - 1], flat[apart])
            self._credit(part, node[inner], shared)

    def _split(self, nodes: Frontier, column: NDArray[np.int64]) -> Frontier:
        """Split nodes by a column each; values that occur once end here, or leave."""
        table, count = self.table, len(nodes.sizes)
        if count == 0:
            return nodes
        node, flat, order = self._by_code(nodes, column)
        changes = np.append(True, (flat[1:] != flat[:-1]) | (node[1:] != node[:-1]))
        heads = np.flatnonzero(changes)
        size = np.diff(np.append(heads, len(flat)))
        parent = node[heads]
        single = size == 1
        least = np.maximum(nodes.least, np.where(self.leave[nodes.root], 2, 1))
        small = size < least[parent]
        loners = _sums(parent, np.where(small, size, 0), count)
        choice_left = nodes.live.sum(axis=1) - nodes.live[np.arange(count), column] > 0
        lets = (loners > 1) & (loners < nodes.sizes) & choice_left
        leaves = small & lets[parent]
        gain, worth = self._account(nodes, flat[heads], parent, leaves)

        place = nodes.place.copy()
        place[np.arange(count), column] = self._round + 1
        ends = single & ~leaves
        at = heads[ends]
        self._record(nodes.slots[order[at]], node[at], place)

        group = ~single & ~leaves
        away = np.flatnonzero(lets)
        member = np.repeat(group, size)
        by = np.concatenate([order[member], order[np.repeat(leaves, size)]])
        source = np.concatenate([parent[group], away])
        left = np.arange(len(source)) >= len(source) - len(away)
        home = np.where(left & (least[source] == 2), column[source], -1)
        live = nodes.live[source]
        live[np.arange(len(source)), column[source]] &= left & (least[source] > 2)
        grown = np.concatenate([table.length[flat[heads[group]]], np.zeros(len(away), np.int64)])
        return Frontier(
            rows=nodes.rows[by],
            slots=nodes.slots[by],
            sizes=np.concatenate([size[group], loners[away]]),
            place=np.where(left[:, None], nodes.place[source], place[source]),
            live=live,
            base=nodes.base[source] + grown,
            root=nodes.root[source],
            forced=np.full(len(source), -1),
            least=np.zeros(len(source), np.int64),
            home=home,
            home_place=np.full(len(source), self._round + 1),
            home_gain=np.where(left, gain[source], 0),
            home_worth=np.where(left, worth[source], 0),
        )

    def _account(
        self,
        nodes: Frontier,
        flat: NDArray[np.int64],
        node: NDArray[np.int64],
        leaves: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Credit what neighbouring values share; what the leaving ones would have added.

        `flat` are the values of all nodes in order, `node` their nodes. Returns, per
        node, units and worth that staying would have brought beyond leaving.
        """
        kept = np.flatnonzero(~leaves)
        inner = np.flatnonzero(node[kept][1:] == node[kept][:-1]) + 1
        shared = self.table.common(flat[kept[inner - 1]], flat[kept[inner]])
        less, less_worth = self._credit(nodes, node[kept[inner]], shared)
        if not leaves.any():
            return less, less_worth
        # The first row of those who left starts from the prefix of the node itself.
        gone = np.flatnonzero(np.bincount(node[leaves], minlength=len(nodes.sizes)))
        _, first = self._credit(nodes, gone, np.zeros(len(gone), np.int64))
        inner = np.flatnonzero(node[1:] == node[:-1]) + 1
        shared = self.table.common(flat[inner - 1], flat[inner])
        worth = _sums(node[inner], self.reuse(nodes.base[node[inner]] + shared), len(nodes.sizes))
        gain = _sums(node[inner], shared, len(nodes.sizes))
        return gain - less, worth - less_worth - first

    def _credit(
        self, nodes: Frontier, node: NDArray[np.int64], shared: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Add the worth of prefixes that end `shared` units below `node`; sums per node."""
        count = len(nodes.sizes)
        worth = _sums(node, self.reuse(nodes.base[node] + shared), count)
        self.worth += _sums(nodes.root, worth, len(self.worth))
        return _sums(node, shared, count), worth

    def _by_code(
        self, nodes: Frontier, column: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Node and flat code of all rows, sorted by both, and that order."""
        node = np.repeat(np.arange(len(nodes.sizes)), nodes.sizes)
        chosen = column[node]
        flat = self.table.offsets[chosen] + self.table.codes[chosen, nodes.rows]
        shift = int(self.table.offsets[-1]).bit_length()
        order = np.argsort((node << shift) | flat, kind="stable")
        return node, flat[order], order

    def _record(
        self, slots: NDArray[np.int64], node: NDArray[np.int64], place: NDArray[np.int32]
    ) -> None:
        if slots.size == 0 or self.layout.size == 0:
            return
        used, leaf = np.unique(node, return_inverse=True)
        self.layout[slots] = self._leaves + leaf
        self._places.append(place[used])
        self._leaves += len(used)


def _sums(at: NDArray[np.int64], values: NDArray[Any], count: int) -> NDArray[Any]:
    """Sums of `values` by index `at`, shape (count,), exact for integers below 2**53."""
    sums = np.bincount(at, values, count)
    return sums.astype(np.int64) if np.issubdtype(values.dtype, np.integer) else sums
