"""How many groups there are, when nobody says: the number whose groups stand apart best.

Stands apart: the mean silhouette (Rousseeuw, "Silhouettes: a graphical aid to the
interpretation and validation of cluster analysis", 1987), by the cosine, of a sample. On
labelled sets it comes near to the number of labels: docs/deduplication.md has the figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quackllm.clustering.directions import Vectors
from quackllm.clustering.kmeans import kmeans

SAMPLE = 1_000
MOST_GROUPS = 20
"""The largest number that is tried: more topics than that are hard to tell apart by name."""


def choose_k(vectors: Vectors) -> int:
    """Choose the number of groups for vectors (n, dimensions) of length 1; n is not 0.

    1 where no number from 2 on gives groups that stand apart.
    """
    step = -(-len(vectors) // SAMPLE)
    sample = vectors[::step]
    best, chosen = 0.0, 1
    for k in range(2, min(MOST_GROUPS, len(sample) - 1) + 1):
        labels = kmeans(sample, k).labels
        found = silhouette(sample, labels)
        if found > best:
            best, chosen = found, k
    return chosen


def silhouette(vectors: Vectors, labels: NDArray[np.int64]) -> float:
    """Return the mean silhouette of groups of vectors of length 1, from -1 to 1.

    labels: (n,), from 0 on, each number at least once. Of a vector that is a group of its own
    it is 0, and so it is where there is only one group.
    """
    members = labels == np.arange(labels.max() + 1)[:, None]
    sizes = members.sum(axis=1)
    if len(sizes) < 2:
        return 0.0
    # Distances to a whole group add up: 1 - cos is linear in the vectors of the group.
    distances = sizes - vectors @ (members.astype(np.float32) @ vectors).T
    rows = np.arange(len(vectors))
    within = distances[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    to_others = distances / sizes
    to_others[rows, labels] = np.inf
    without = to_others.min(axis=1)
    larger = np.maximum(np.maximum(within, without), np.finfo(np.float32).tiny)
    return float(np.where(sizes[labels] == 1, 0, (without - within) / larger).mean())
