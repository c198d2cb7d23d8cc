"""The nearest vectors are those that a full sort finds, ties by place (promise 2)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.engine import neighbours
from quackllm.engine.neighbours import nearest, unit


def sorted_in_full(queries: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """The same by sorting everything."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 40), st.integers(0, 50))
def test_as_a_full_sort_finds_them(seed: int, m: int, n: int, k: int) -> None:
    random = np.random.default_rng(seed)
    # Few different numbers, so that similarities tie.
    queries = random.integers(-1, 2, (m, 3)).astype(np.float32)
    vectors = random.integers(-1, 2, (n, 3)).astype(np.float32)
    found = nearest(queries, vectors, k)
    assert found.indices.tolist() == sorted_in_full(queries, vectors, k).tolist()
    assert np.allclose(found.scores, np.take_along_axis(queries @ vectors.T, found.indices, 1))


def test_blocks_of_queries_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    queries, vectors = (unit(random.normal(size=(n, 8)).astype(np.float32)) for n in (50, 70))
    whole = nearest(queries, vectors, 5)
    monkeypatch.setattr(neighbours, "BLOCK", 140)
    assert nearest(queries, vectors, 5).indices.tolist() == whole.indices.tolist()


def test_unit_vectors_and_zeros() -> None:
    found = unit(np.array([[3, 4], [0, 0]], np.float32))
    assert np.allclose(found, np.array([[0.6, 0.8], [0, 0]]))
    assert found.dtype == np.float32


def test_dimensions_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        nearest(np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32), 1)
