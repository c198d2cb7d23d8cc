"""The candidate pairs are those that comparing everything finds, each once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.engine.candidates import candidate_pairs
from quackllm.engine.neighbours import unit
from quackllm.engine.shared_words import WordVectors, word_vectors

ROUNDING = 1e-6


def words(*texts: str) -> WordVectors:
    """The words of some texts."""
    return word_vectors(pa.array([text.split() for text in texts], pa.list_(pa.string())))


def no_words(n: int) -> WordVectors:
    """As many texts that have none."""
    return words(*[""] * n)


def random_vectors(seed: int, n: int) -> np.ndarray:
    """Vectors of few different numbers, so that cosines tie."""
    random = np.random.default_rng(seed)
    return unit(random.integers(-1, 2, (n, 3)).astype(np.float32))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 25),
    st.integers(0, 30),
    st.sampled_from([-1.0, 0.0, 0.5, 0.99]),
)
def test_a_pair_is_there_if_one_is_near_the_other(
    seed: int, n: int, neighbours: int, threshold: float
) -> None:
    vectors = random_vectors(seed, n)
    cosines = vectors @ vectors.T
    found = candidate_pairs(vectors, no_words(n), neighbours, threshold)
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert len(pairs) == len(found), "no pair twice"
    assert all(left < right for left, right in pairs)
    assert np.allclose(found.scores, cosines[found.left, found.right], atol=ROUNDING)
    for left in range(n):
        for right in range(left + 1, n):
            nearer = min(
                int((np.delete(cosines[one], one) > cosines[one, other]).sum())
                for one, other in ((left, right), (right, left))
            )
            if (left, right) in pairs:
                assert nearer < neighbours and cosines[left, right] >= threshold - ROUNDING
            elif cosines[left, right] >= threshold + ROUNDING:
                tied = min(
                    int((np.delete(cosines[one], one) >= cosines[one, other]).sum())
                    for one, other in ((left, right), (right, left))
                )
                assert tied > neighbours


def test_all_equal_vectors_have_no_more_pairs_than_neighbours() -> None:
    vectors = np.tile(unit(np.ones((1, 4), np.float32)), (50, 1))
    found = candidate_pairs(vectors, no_words(50), 3, 0.5)
    assert 50 * 3 / 2 <= len(found) <= 50 * 3


def test_a_vector_of_zeros_is_near_nothing() -> None:
    vectors = np.array([[0, 0], [0, 0], [1, 0]], np.float32)
    assert len(candidate_pairs(vectors, no_words(3), 5, 0.1)) == 0


def test_a_word_in_common_makes_the_nearest_of_equally_near_texts() -> None:
    vectors = np.tile(unit(np.ones((1, 4), np.float32)), (4, 1))
    texts = words("camera dsc120", "camera dsc300", "recorder dsc300", "recorder dsc120")
    found = candidate_pairs(vectors, texts, 1, 0.5)
    assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) >= {(0, 3), (1, 2)}


def test_texts_that_share_words_only_are_not_compared() -> None:
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    assert len(candidate_pairs(vectors, words("dsc120", "dsc120"), 5, 0.5)) == 0
