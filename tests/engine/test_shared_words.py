"""The nearness by shared words is the cosine of TF-IDF vectors written out in full."""

from __future__ import annotations

from math import log, sqrt
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.engine import shared_words
from quackllm.engine.shared_words import SharedWords, WordVectors, word_vectors

TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=12)


def vectors(texts: list[list[str]]) -> WordVectors:
    return word_vectors(pa.array(texts, pa.list_(pa.string())))


def written_out(texts: list[list[str]]) -> list[dict[str, float]]:
    """The formula: (1 + ln times) * ln(1 + texts / texts with the word), at length 1."""
    found = []
    for text in texts:
        weighed = {
            word: (1 + log(text.count(word))) * log(1 + len(texts) / sum(word in t for t in texts))
            for word in set(text)
        }
        length = sqrt(sum(weight**2 for weight in weighed.values()))
        found.append({word: weight / length for word, weight in weighed.items()})
    return found


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(0, 12), st.integers(1, 30), st.integers(1, 12))
def test_cosines_are_those_of_the_formula(
    texts: list[list[str]], cut: int, at_once: int, frequent: int
) -> None:
    cut = min(cut, len(texts))
    both, formula = vectors(texts), written_out(texts)
    left, right = both.part(0, cut), both.part(cut, len(texts))
    with patch.multiple(shared_words, EXPANDED=at_once, FREQUENT=frequent):
        found = SharedWords(right).cosines(left, 0, cut)
    expected = [
        [sum(a[w] * b[w] for w in a.keys() & b.keys()) for b in formula[cut:]]
        for a in formula[:cut]
    ]
    assert np.allclose(found, np.array(expected, np.float32).reshape(found.shape), atol=1e-5)


def test_some_texts_are_compared_as_all_of_them_are() -> None:
    texts = vectors([["a", "b"], ["b"], ["c", "b"], ["a"]])
    shared = SharedWords(texts)
    assert np.allclose(shared.cosines(texts, 1, 3), shared.cosines(texts, 0, 4)[1:3])


def test_a_rare_word_says_more_than_a_frequent_one() -> None:
    texts = vectors([["sony", "dsc120"], ["sony", "camera"], ["dsc120", "camera"], ["sony", "tv"]])
    [cosines] = SharedWords(texts).cosines(texts, 0, 1)
    assert cosines[2] > cosines[1] > 0


@pytest.mark.parametrize("words", [[], [[]], [None, ["a"]]])
def test_texts_without_words_are_near_nothing(words: list[list[str]]) -> None:
    texts = word_vectors(pa.array(words, pa.list_(pa.string())))
    found = SharedWords(texts).cosines(texts, 0, len(words))
    assert np.allclose(np.diag(found), [bool(each) for each in words])
