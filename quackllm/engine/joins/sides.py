"""The two sides of a join as a strategy sees them: distinct values, and the pairs of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quackllm.engine.lexical import WORDS
from quackllm.engine.stage_answers import string_columns
from quackllm.optimizer.program import PairSearch

Fetch = Callable[[str], pa.Table]
"""Runs a query of DuckDB's."""

NULL = "null"
"""How a field that is NULL is rendered."""


@dataclass(frozen=True)
class Side:
    """The distinct values of one side: a string array (n,) for each field, rendered.

    words: (n,), lists of their words.
    """

    fields: tuple[pa.Array, ...]
    words: pa.Array

    def __len__(self) -> int:
        return len(self.fields[0])

    def texts(self) -> list[str]:
        """What to embed of each value, as JSON: the one field as it is, several joined by lines.

        'null' where all fields are NULL.
        """
        columns = [field.to_pylist() for field in self.fields]
        if len(columns) == 1:
            return list(columns[0])
        return [_joined(values) for values in zip(*columns, strict=True)]


def _joined(values: Sequence[str]) -> str:
    parts = [json.loads(value) for value in values if value != NULL]
    if not parts:
        return NULL
    shown = (part if isinstance(part, str) else json.dumps(part) for part in parts)
    return json.dumps("\n".join(shown), ensure_ascii=False)


@dataclass(frozen=True)
class JoinPairs:
    """The distinct pairs (n,) of a join, as positions in its two sides, and in their order.

    So their values alone decide which pairs a random sample of them holds.
    """

    left: Side
    right: Side
    at_left: NDArray[np.int32]
    at_right: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.at_left)

    def tuples(self, search: PairSearch, pairs: NDArray[np.int64]) -> pa.Table:
        """The argument tuples of some pairs, by their positions: a column for each field."""
        columns: dict[int, pa.Array] = {}
        strategy = search.strategy
        for side, rows, arguments in (
            (self.left, self.at_left, strategy.left),
            (self.right, self.at_right, strategy.right),
        ):
            taken = pa.array(rows[pairs])
            for argument, field in zip(arguments, side.fields, strict=True):
                columns[argument] = field.take(taken)
        return pa.table({f"f{at}": columns[at] for at in sorted(columns)})


def read_pairs(search: PairSearch, fetch: Fetch, most: int) -> JoinPairs | None:
    """Find the pairs of a join; None where there are more than `most`.

    None, too, in the odd case that two values of a side have the same hash.
    """
    left = _read_side(search.left, len(search.strategy.left), fetch)
    right = _read_side(search.right, len(search.strategy.right), fetch)
    if left is None or right is None:
        return None
    if len(left[0]) * len(right[0]) > most:
        counted = fetch(f"SELECT count(*) FROM ({search.pairs})")
        if counted.column(0)[0].as_py() > most:
            return None
    pairs = fetch(search.pairs)
    at_left = _positions(pairs.column(0).to_numpy(), left[1])
    at_right = _positions(pairs.column(1).to_numpy(), right[1])
    order = np.lexsort((at_right, at_left))
    return JoinPairs(left[0], right[0], at_left[order], at_right[order])


def _read_side(sql: str, fields: int, fetch: Fetch) -> tuple[Side, NDArray[np.uint64]] | None:
    """The values of a side in the order of their hashes, and the hashes."""
    values = ", ".join(f"c{at} ->> '$'" for at in range(fields))  # JSON, shown as text
    words = WORDS.format(text=f"concat_ws(' ', {values})")
    table = fetch(f"SELECT *, {words} AS words FROM ({sql})")
    hashes = table.column(fields).to_numpy()
    order = np.argsort(hashes)
    hashes = hashes[order]
    if len(hashes) and bool((hashes[1:] == hashes[:-1]).any()):
        return None
    table = table.take(pa.array(order))
    listed = table.column("words").combine_chunks()
    return Side(tuple(string_columns(table, fields)), listed), hashes


def _positions(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.int32]:
    return np.searchsorted(known, hashes).astype(np.int32)
