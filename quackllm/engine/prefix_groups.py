"""Which rows, next to each other in the sending order, share a long prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quackllm.engine.sending_order import SendingOrder
from quackllm.udfs.prompt import render_fields

_DIGEST_BYTES = 8


@dataclass(frozen=True)
class PrefixGroup:
    """Rows that begin with the same fields and values.

    positions: of the rows, in the sending order.
    name: the same wherever and whenever a row begins so, whatever is asked about it: another
        question with the row in front of it finds the row where the first one was sent.
    shared: characters of the rendered row that all of them begin with.
    """

    positions: range
    name: str
    shared: int


class PrefixGroups:
    """The sending order of one round, cut where the shared prefix ends."""

    def __init__(
        self,
        fields: Sequence[str],
        order: SendingOrder,
        columns: Sequence[pa.Array],
        most: int | None = None,
    ) -> None:
        """Cut the order.

        fields: their names.
        columns: one string array of rendered values per field, as for the orderer.
        most: rows of a group, if that can be: more that begin alike are told apart by more of
            their fields.
        """
        self._names = tuple(fields)
        self._order = order
        self._columns = columns
        rows = len(order.rows)
        self._starts, self._depths = _cut(_keys(order, columns), most or rows)
        self._ends = np.append(self._starts[1:], rows)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[PrefixGroup]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> PrefixGroup:
        """Return a group."""
        positions = range(int(self._starts[index]), int(self._ends[index]))
        prefix = self._prefix(positions.start, int(self._depths[index]))
        said = prefix.encode("utf-8", "surrogatepass")
        name = blake2b(said, digest_size=_DIGEST_BYTES).hexdigest()
        return PrefixGroup(positions, name, len(prefix))

    def at(self, position: int) -> PrefixGroup:
        """Return the group of a position of the sending order."""
        return self[int(np.searchsorted(self._starts, position, side="right")) - 1]

    def _prefix(self, position: int, depth: int) -> str:
        """Return what the rows of a group begin with, its first fields, rendered."""
        row, order = int(self._order.rows[position]), self._order.fields
        fields = range(depth) if order is None else order[position][:depth].tolist()
        values = {field: self._columns[field][row].as_py() for field in fields}
        shown = [values.get(field) for field in range(len(self._columns))]
        return render_fields(self._names, shown, fields).removesuffix("}")


def _keys(order: SendingOrder, columns: Sequence[pa.Array]) -> list[NDArray[np.int64]]:
    """Return for each place in a row, the first one first, what stands there as a number."""
    codes = np.array([_codes(column)[order.rows] for column in columns], dtype=np.int64)
    if order.fields is None:
        return list(codes)
    rows = np.arange(len(order.rows))
    width = int(codes.max(initial=0)) + 1
    return [field * width + codes[field, rows] for field in order.fields.T.astype(np.int64)]


def _codes(column: pa.Array) -> NDArray[np.int64]:
    numbers = column.dictionary_encode().indices.fill_null(-1)
    codes: NDArray[np.int64] = numbers.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _cut(keys: list[NDArray[np.int64]], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where groups begin, and how many fields the rows of each share.

    As few fields as give a group of at most `most` rows: one field of all, more where needed.
    """
    rows = len(keys[0]) if keys else 1
    begins = np.zeros(rows, dtype=bool)
    begins[0] = True
    depths = np.zeros(rows, dtype=np.int64)
    uncut = np.ones(rows, dtype=bool)
    for depth, key in enumerate(keys, start=1):
        depths[uncut] = depth
        begins[1:] |= uncut[1:] & (key[1:] != key[:-1])
        starts = np.flatnonzero(begins)
        sizes = np.diff(starts, append=rows)
        uncut &= np.repeat(sizes > most, sizes)
        if not uncut.any():
            break
    starts = np.flatnonzero(begins)
    return starts, depths[starts]
