"""Sorts that tell, for all nodes of a tree and all columns at once, what a split gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder.encode import Encoded

_CELLS = 1 << 18
"""Cells sorted at once: small tables need few calls, large ones little memory."""


@dataclass(frozen=True)
class Splits:
    """What it would bring to put a column next, per node and column, arrays (q, m).

    `distinct`: values of the column in the node. `equal`: units saved by rows whose
    whole fragment equals that of another row, all but one of each group. `partial`:
    units that the different fragments share with their neighbours in sorted order (0
    where it was not asked for). A pair that was not asked for counts as all distinct.
    """

    distinct: NDArray[np.int64]
    equal: NDArray[np.int64]
    partial: NDArray[np.int64]


def ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices of all ranges `start, start + 1, ...` of these sizes, one after another."""
    ends = np.cumsum(sizes)
    at = np.repeat(starts - (ends - sizes), sizes)
    at += np.arange(len(at))
    return at


def splits(
    table: Encoded,
    rows: NDArray[np.int64],
    sizes: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    with_partial: bool,
) -> Splits:
    """Evaluate the `wanted` (q, m) pairs of nodes whose rows follow each other in `rows`.

    `sizes` (q,) are the nodes' rows, all positive, and sum to len(rows).
    """
    result = Splits(
        np.repeat(sizes[:, None], table.columns, axis=1),
        np.zeros(wanted.shape, np.int64),
        np.zeros(wanted.shape, np.int64),
    )
    column, node = np.nonzero(wanted.T)
    if column.size == 0:
        return result
    starts = np.cumsum(sizes) - sizes
    part = (np.cumsum(sizes[node]) - 1) // _CELLS
    edges = np.flatnonzero(np.diff(part, prepend=-1, append=part[-1] + 1))
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        pairs = (node[low:high], column[low:high])
        _evaluate(table, rows, starts, sizes, pairs, with_partial, result)
    return result


def _evaluate(
    table: Encoded,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    with_partial: bool,
    into: Splits,
) -> None:
    node, column = pairs
    size = sizes[node]
    cell = rows[ranges(starts[node], size)]
    cell += np.repeat(column * table.rows, size)
    bits = int(table.distinct[column].max() - 1).bit_length()
    key = _pair_keys(size, bits)
    key |= table.codes.ravel()[cell].astype(key.dtype)
    key.sort()
    same = np.zeros(len(key), bool)
    np.equal(key[1:], key[:-1], out=same[1:])
    first = np.cumsum(size) - size
    key &= key.dtype.type((1 << bits) - 1)
    flat = key + np.repeat(table.offsets[column], size)
    into.distinct[pairs] -= np.add.reduceat(same, first, dtype=np.int64)
    into.equal[pairs] = np.add.reduceat(np.where(same, table.length[flat], 0), first)
    if with_partial:
        same[first] = True
        at = np.flatnonzero(~same)
        shared = np.zeros(len(flat), np.int64)
        shared[at] = table.common(flat[at - 1], flat[at])
        into.partial[pairs] = np.add.reduceat(shared, first)


def _pair_keys(size: NDArray[np.int64], bits: int) -> NDArray[Any]:
    """Per cell the number of its pair, shifted above any rank; in 32 bits if that is enough.

    A chunk has at most as many pairs as cells, and a column no more ranks than the
    table rows, so both always fit 63 bits.
    """
    pair = np.arange(len(size)) << bits
    narrow = bits + int(len(size) - 1).bit_length() <= 32
    return np.repeat(pair.astype(np.uint32 if narrow else np.int64), size)
