"""k-means of unit vectors by the cosine, the same groups for the same set of vectors.

Spherical k-means (Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data Using
Clustering", 2001): a centre is the mean direction of its vectors. It starts from k-means++
(Arthur and Vassilvitskii, SODA 2007), whose draws are seeded by the vectors themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from quackllm.clustering.directions import Vectors, unit

MOST_ROUNDS = 100
STARTS = 4
"""Times it is begun; the best result counts, since each ends in a local optimum."""


@dataclass(frozen=True)
class Clusters:
    """Groups of vectors.

    centres: (k, dimensions), of length 1. labels: (n,), the centre nearest to each vector,
    the first of equally near ones. fit: the mean cosine of vectors and their centres.
    """

    centres: Vectors
    labels: NDArray[np.int64]
    fit: float


def kmeans(vectors: Vectors, k: int) -> Clusters:
    """Group vectors (n, dimensions) of length 1 in at most k groups, none of them empty.

    There are fewer than k where there are fewer different vectors. In another order the same
    vectors begin with other draws: sort them for results that do not depend on it. Raises
    ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not len(vectors):
        return Clusters(vectors, np.empty(0, np.int64), 0.0)
    random = np.random.Generator(np.random.PCG64(_seed(vectors)))
    results = [_refined(vectors, _starts(vectors, k, random)) for _ in range(STARTS)]
    return max(results, key=lambda result: result.fit)


def _seed(vectors: Vectors) -> int:
    digest = blake2b(np.ascontiguousarray(vectors, "<f4").tobytes(), digest_size=16)
    return int.from_bytes(digest.digest())


def _starts(vectors: Vectors, k: int, random: np.random.Generator) -> Vectors:
    """Draw up to k different vectors, each with the squared distance to those drawn before."""
    drawn = [int(random.integers(len(vectors)))]
    distance = _squared_distance(vectors, vectors[drawn[0]])
    while len(drawn) < k and (total := distance.sum()) > 0:
        drawn.append(int(random.choice(len(vectors), p=distance / total)))
        distance = np.minimum(distance, _squared_distance(vectors, vectors[drawn[-1]]))
    return vectors[drawn]


def _squared_distance(vectors: Vectors, to: Vectors) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.square(vectors - to, dtype=np.float64).sum(axis=1)
    return distance


def _refined(vectors: Vectors, centres: Vectors) -> Clusters:
    """Move centres to the mean of their vectors until no vector changes its centre."""
    labels = _nearest(vectors, centres)
    for _ in range(MOST_ROUNDS):
        centres, labels = _means(vectors, labels)
        moved = _nearest(vectors, centres)
        if (moved == labels).all():
            break
        labels = moved
    centres, labels = _means(vectors, labels)
    fit = float(np.einsum("ij,ij->i", vectors, centres[labels]).mean())
    return Clusters(centres, labels, fit)


def _nearest(vectors: Vectors, centres: Vectors) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = np.argmax(vectors @ centres.T, axis=1)
    return nearest


def _means(vectors: Vectors, labels: NDArray[np.int64]) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the mean direction of each group, and the labels without numbers that are empty."""
    used, labels = np.unique(labels, return_inverse=True)
    members = labels == np.arange(len(used))[:, None]
    return unit(members.astype(np.float32) @ vectors), labels
