"""What a server's prefix cache reuses of given prompts, computed exactly.

All prompts of a table form a trie. Sorted as texts, each prompt has its longest
common prefix with the one before it, so a cache that forgets nothing reuses the same
amount whatever the order of rows: the sum over neighbours of the sorted order.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder.encode import Encoded


def sorted_prefixes(
    table: Encoded, orders: NDArray[np.int64], layout: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows sorted as prompts, and the prefix each shares with the row before it.

    Row r shows its fields in the order `orders[layout[r]]`; `orders` is (k, m),
    `layout` (n,). Returns the sorted row numbers (n,), equal prompts by row number,
    and the common prefixes in units (n,), the first 0.

    Most significant field first: a row leaves as soon as no other row has its prefix.
    """
    n, m = table.rows, table.columns
    rows = np.arange(n)
    prefix = np.zeros(n, np.int64)
    place, group, base = np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    first = _first_of_rank(table)
    shift = int(table.offsets[-1]).bit_length()
    for position in range(m):
        if place.size == 0:
            break
        here = rows[place]
        column = orders[layout[here], position]
        code = table.codes[column, here].astype(np.int64)
        key = (group << shift) | (first[column] + code)
        order = np.argsort(key, kind="stable")
        key, here, column, code = key[order], here[order], column[order], code[order]
        rows[place], base = here, base[order]
        flat = table.offsets[column] + code
        start = np.append(True, key[1:] != key[:-1])
        new = np.flatnonzero(start & np.append(False, group[1:] == group[:-1]))
        prefix[place[new]] = base[new] + _shared(table, column, flat, new)
        base += table.length[flat]
        stays = ~start
        stays[:-1] |= ~start[1:]
        place, base, group = place[stays], base[stays], np.cumsum(start)[stays]
    # What is left equals the row before it, but for the first of each group.
    again = np.append(False, group[1:] == group[:-1])[: place.size]
    prefix[place[again]] = base[again]
    return rows, prefix


def _first_of_rank(table: Encoded) -> NDArray[np.int64]:
    """First sortable code of each column when columns are sorted by their heads."""
    by_rank = np.argsort(table.column_rank)
    first = np.empty(table.columns, np.int64)
    first[by_rank] = np.cumsum(table.distinct[by_rank]) - table.distinct[by_rank]
    return first


def _shared(
    table: Encoded, column: NDArray[np.int64], flat: NDArray[np.int64], at: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Units that the fragments at `at` share with the ones before them, which differ."""
    same = column[at] == column[at - 1]
    shared = table.heads[column[at - 1], column[at]]
    shared[same] = table.common(flat[at[same] - 1], flat[at[same]])
    return shared


def neighbour_prefixes(
    table: Encoded,
    orders: NDArray[np.int64],
    layout: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Units each row shares with the row just before it in the order `rows`, shape (n,)."""
    prefix = np.zeros(len(rows), np.int64)
    pair = np.arange(1, len(rows))
    for position in range(table.columns):
        if pair.size == 0:
            break
        above, below = rows[pair - 1], rows[pair]
        left, right = orders[layout[above], position], orders[layout[below], position]
        a = table.offsets[left] + table.codes[left, above]
        b = table.offsets[right] + table.codes[right, below]
        equal = a == b
        prefix[pair[equal]] += table.length[b[equal]]
        partly = (left == right) & ~equal
        low, high = np.minimum(a[partly], b[partly]), np.maximum(a[partly], b[partly])
        prefix[pair[partly]] += table.common(low, high)
        other = left != right
        prefix[pair[other]] += table.heads[left[other], right[other]]
        pair = pair[equal]
    return prefix


def bounded_prefixes(
    rows: NDArray[np.int64],
    prefix: NDArray[np.int64],
    length: NDArray[np.int64],
    sent: NDArray[np.int64],
    block: int,
    capacity: int,
) -> NDArray[np.int64]:
    """Units each prompt finds in a cache of `capacity` units that drops the oldest block.

    `rows` and `prefix` are what `sorted_prefixes` returns, `length` (n,) the units of
    each row, `sent` (n,) the order in which rows are sent. Returns units found, in
    whole blocks, shape (n,), for the rows in the order of `sent`. A block is found
    when it and all before it are still held; of one prompt the last block is the
    first to go, as in vLLM. Runs in Python over all blocks of all prompts.
    """
    known = _block_names(rows, prefix // block, length // block)
    held: OrderedDict[tuple[int, int], None] = OrderedDict()
    most = capacity // block
    found = np.zeros(len(sent), np.int64)
    for index, row in enumerate(sent.tolist()):
        names = known[row]
        hits = 0
        while hits < len(names) and names[hits] in held:
            hits += 1
        found[index] = hits * block
        for name in reversed(names[:most]):
            held[name] = None
            held.move_to_end(name)
        while len(held) > most:
            held.popitem(last=False)
    return found


def _block_names(
    rows: NDArray[np.int64], shared: NDArray[np.int64], blocks: NDArray[np.int64]
) -> list[list[tuple[int, int]]]:
    """Per row, a name for each of its blocks, equal where block and all before are equal."""
    names: list[list[tuple[int, int]]] = [[] for _ in rows]
    path: list[tuple[int, int]] = []
    for row, common in zip(rows.tolist(), shared.tolist(), strict=True):
        keep = min(common, len(path))
        path = path[:keep] + [(row, depth) for depth in range(keep, int(blocks[row]))]
        names[row] = path
    return names
