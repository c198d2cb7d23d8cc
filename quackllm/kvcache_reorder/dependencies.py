"""Functional dependencies between columns, found in the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder.encode import Encoded

_SAMPLE = 1024


def find_dependencies(table: Encoded) -> NDArray[np.bool_]:
    """Which column determines which, shape (m, m): [a, b] when equal a means equal b.

    A column without repeated values determines everything and nothing of use, so its
    row is all False, and so is the diagonal. Pairs are tried on 1,024 rows first.
    """
    m, n = table.columns, table.rows
    found = np.zeros((m, m), bool)
    sample = table.codes[:, :: max(1, n // _SAMPLE)]
    for a in range(m):
        if table.distinct[a] == n:
            continue
        for b in range(m):
            if (
                a != b
                and table.distinct[a] >= table.distinct[b]
                and _determines(sample[a], sample[b])
            ):
                found[a, b] = _determines(table.codes[a], table.codes[b])
    return found


def _determines(a: NDArray[np.int32], b: NDArray[np.int32]) -> bool:
    image = np.zeros(int(a.max(initial=0)) + 1, b.dtype)
    image[a] = b
    return bool((image[a] == b).all())


def given_dependencies(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> NDArray[np.bool_]:
    """Dependencies stated as pairs (determining column, determined column), shape (m, m).

    Raises ValueError for a name that is no column.
    """
    place = {name: index for index, name in enumerate(names)}
    found = np.zeros((len(names), len(names)), bool)
    for pair in pairs:
        unknown = [name for name in pair if name not in place]
        if unknown:
            raise ValueError(f"no column {unknown[0]!r}; columns are {', '.join(names)}")
        found[place[pair[0]], place[pair[1]]] = True
    return found
