"""Pairs of texts that are worth comparing: those whose vectors are near each other.

Comparing each text with each other takes n(n-1)/2 calls. Blocking (Papadakis, Skoutas,
Thanos and Palpanas, "Blocking and Filtering Techniques for Entity Resolution", 2020) asks
only about the pairs that a cheap test lets through; a match it does not let through is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quackllm.engine.neighbours import nearest


@dataclass(frozen=True)
class CandidatePairs:
    """Pairs of positions, each pair once, ascending.

    left, right: (p,), left < right. scores: (p,), the cosines.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left)


def candidate_pairs(
    vectors: NDArray[np.float32], neighbours: int, threshold: float
) -> CandidatePairs:
    """Find the pairs of which one is among the nearest of the other, and near enough.

    vectors: (n, dimensions), of length 1. neighbours: of each vector, how many of the nearest
    others are looked at. threshold: the cosine that a pair has at least.
    """
    n = len(vectors)
    found = nearest(vectors, vectors, neighbours + 1)
    own = found.indices == np.arange(n)[:, None]
    if found.indices.shape[1] > neighbours:
        # Among more equal vectors than are looked at, one may not be its own neighbour.
        own[~own.any(axis=1), -1] = True
    wanted = ~own & (found.scores >= threshold)
    at, _ = np.nonzero(wanted)
    other, scores = found.indices[wanted], found.scores[wanted]
    left, right = np.minimum(at, other), np.maximum(at, other)
    _, first = np.unique(left * n + right, return_index=True)
    return CandidatePairs(left[first], right[first], scores[first])
