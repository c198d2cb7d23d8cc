"""Pairs of texts that are worth comparing: those near each other by meaning and by words.

Comparing each text with each other takes n(n-1)/2 calls. Blocking (Papadakis, Skoutas,
Thanos and Palpanas, "Blocking and Filtering Techniques for Entity Resolution", 2020) asks
only about the pairs that a cheap test lets through; a match it does not let through is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quackllm.engine.neighbours import nearest
from quackllm.engine.shared_words import SharedWords, WordVectors


@dataclass(frozen=True)
class CandidatePairs:
    """Pairs of positions, each pair once, ascending.

    left, right: (p,), left < right. scores: (p,), the cosines of their embeddings.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left)


def candidate_pairs(
    vectors: NDArray[np.float32], words: WordVectors, neighbours: int, threshold: float
) -> CandidatePairs:
    """Find the pairs of which one is among the nearest of the other, and near enough.

    Nearest are those with the largest sum of two cosines: of the embeddings, and of the words.

    vectors: (n, dimensions), embeddings of length 1. words: of the same texts. neighbours: of
    each text, how many of the nearest others are looked at. threshold: the cosine of their
    embeddings that a pair has at least.
    """
    n = len(vectors)
    shared = SharedWords(words)
    found = nearest(
        vectors, vectors, neighbours + 1, lambda start, stop: shared.cosines(words, start, stop)
    )
    own = found.indices == np.arange(n)[:, None]
    if found.indices.shape[1] > neighbours:
        # Among more equal vectors than are looked at, one may not be its own neighbour.
        own[~own.any(axis=1), -1] = True
    at, _ = np.nonzero(~own)
    other = found.indices[~own]
    pairs = np.unique(np.minimum(at, other) * n + np.maximum(at, other))
    left, right = np.divmod(pairs, max(n, 1))
    scores = np.einsum("ij,ij->i", vectors[left], vectors[right])
    near = scores >= threshold
    return CandidatePairs(left[near], right[near], scores[near])
