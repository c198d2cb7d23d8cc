"""k-means finds separated groups, always the same ones, whatever the number asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.clustering.directions import unit
from quackllm.clustering.kmeans import kmeans


def blobs(groups: int, each: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around orthogonal directions, and the group of each."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), each)
    vectors = np.eye(16)[labels] + spread * random.normal(size=(groups * each, 16))
    return unit(vectors.astype(np.float32)), labels


def same_grouping(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("groups", [1, 2, 5, 10])
def test_separated_groups_are_found(groups: int) -> None:
    vectors, labels = blobs(groups, 30, 0.05)
    assert same_grouping(kmeans(vectors, groups).labels, labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 40))
def test_each_vector_is_with_the_centre_nearest_to_it(seed: int, n: int, k: int) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(random.integers(-1, 2, (n, 3)).astype(np.float32))
    found = kmeans(vectors, k)
    assert 1 <= len(found.centres) <= min(k, n)
    assert set(found.labels.tolist()) == set(range(len(found.centres))), "no group is empty"
    cosines = vectors @ found.centres.T
    own = cosines[np.arange(n), found.labels]
    assert np.allclose(own, cosines.max(axis=1), atol=1e-5)
    assert found.fit == pytest.approx(float(own.mean()), abs=1e-5)
    again = kmeans(vectors, k)
    assert np.array_equal(again.labels, found.labels)
    assert np.array_equal(again.centres, found.centres)


def test_equal_vectors_are_one_group() -> None:
    vectors = np.tile(unit(np.ones((1, 4), np.float32)), (20, 1))
    assert kmeans(vectors, 5).labels.tolist() == [0] * 20


def test_nothing_has_no_groups() -> None:
    assert kmeans(np.empty((0, 4), np.float32), 3).centres.shape == (0, 4)


def test_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        kmeans(np.ones((1, 4), np.float32), 0)
