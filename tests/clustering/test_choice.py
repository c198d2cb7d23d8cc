"""The number of groups is that of the data where groups stand apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.clustering.choice import choose_k, silhouette
from quackllm.clustering.directions import unit
from tests.clustering.test_kmeans import blobs


def silhouette_by_pairs(vectors: np.ndarray, labels: np.ndarray) -> float:
    """The same from its definition, over all pairs."""
    distance = 1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    values = []
    for i, label in enumerate(labels):
        own = [j for j in np.flatnonzero(labels == label) if j != i]
        if not own:
            values.append(0.0)
            continue
        a = distance[i, own].mean()
        b = min(distance[i, labels == other].mean() for other in set(labels) - {label})
        values.append((b - a) / max(a, b))
    return float(np.mean(values))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 30), st.integers(2, 4))
def test_as_its_definition_says(seed: int, n: int, groups: int) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(random.normal(size=(n, 4)).astype(np.float32))
    labels = np.unique(random.integers(0, groups, n), return_inverse=True)[1]
    if labels.max() == 0:
        assert silhouette(vectors, labels) == 0
    else:
        assert silhouette(vectors, labels) == pytest.approx(
            silhouette_by_pairs(vectors, labels), abs=1e-3
        )


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_separated_groups_are_counted(groups: int) -> None:
    assert choose_k(blobs(groups, 25, 0.05)[0]) == groups


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_or_equal_vectors_have_a_number(n: int) -> None:
    assert choose_k(np.tile(unit(np.ones((1, 4), np.float32)), (n, 1))) == 1
    assert 1 <= choose_k(unit(np.eye(8, dtype=np.float32)[:n])) <= n
