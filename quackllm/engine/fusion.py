"""Several rankings of the same things made one: reciprocal rank fusion.

Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods" (SIGIR 2009): the score of a thing is the sum of 1 / (60 + rank) over the
rankings that it stands in. Only ranks count, so scores of different kinds need no common scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONSTANT = 60
"""The paper's value: how little the first ranks differ."""


def fused(rankings: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Fuse rankings: return the things, the best first, and their scores.

    rankings: of each the things (indices) it ranks, the best first, none twice. Equal scores
    are in the order of the indices.
    """
    if not rankings:
        return np.empty(0, np.int64), np.empty(0)
    things = np.unique(np.concatenate(rankings))
    scores = np.zeros(len(things))
    for ranking in rankings:
        ranks = np.arange(1, len(ranking) + 1)
        scores[np.searchsorted(things, ranking)] += 1 / (CONSTANT + ranks)
    order = np.argsort(-scores, kind="stable")
    return things[order], scores[order]
