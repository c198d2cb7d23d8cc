"""How near texts are by the words that they share: the cosine of their TF-IDF vectors.

Salton and Buckley, "Term-weighting approaches in automatic text retrieval" (1988): a word counts
for more the rarer it is, and a text's vector has length 1. A name or a model number that two
texts share says much of them, and embeddings hardly see it.

Vectors are sparse, and their product is made of the words that two texts have in common. The few
words that stand in many texts make most of these, and are multiplied as a matrix instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

EXPANDED = 1 << 22
"""Products of two weights that are kept at a time, as a rule (100 MB)."""

FREQUENT = 32
"""A word in more than one of so many texts is frequent."""


@dataclass(frozen=True)
class WordVectors:
    """Vectors of n texts over v words, length 1 each: only the numbers that are not 0.

    starts: (n + 1,), where the words of each text begin. words: (m,), their numbers from 0 on.
    weights: (m,).
    """

    starts: NDArray[np.int64]
    words: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def of_text(self) -> NDArray[np.int64]:
        """The text, by position, that each number (m,) is of."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def part(self, start: int, stop: int) -> WordVectors:
        """Return the vectors of some texts, by position."""
        first, last = self.starts[start], self.starts[stop]
        starts = self.starts[start : stop + 1] - first
        return WordVectors(starts, self.words[first:last], self.weights[first:last])


def word_vectors(texts: pa.Array) -> WordVectors:
    """Weigh the words of texts, a list array (n,) of each one's words.

    How rare a word is, these texts tell. A text without words is 0.
    """
    lengths = texts.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    coded = texts.flatten().dictionary_encode()
    vocabulary = max(1, len(coded.dictionary))
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    places, times = np.unique(
        np.repeat(np.arange(len(texts)), lengths) * vocabulary + codes, return_counts=True
    )
    of_text, words = np.divmod(places, vocabulary)
    frequency = np.bincount(words, minlength=vocabulary)
    weights = (1 + np.log(times)) * np.log1p(len(texts) / frequency[words])
    norms = np.sqrt(np.bincount(of_text, weights * weights, minlength=len(texts)))
    starts = np.searchsorted(of_text, np.arange(len(texts) + 1))
    return WordVectors(starts, words, (weights / norms[of_text]).astype(np.float32))


class SharedWords:
    """The cosines of texts with a fixed set of others (n,)."""

    def __init__(self, others: WordVectors) -> None:
        words, frequency = np.unique(others.words, return_counts=True)
        self._frequent = words[frequency > len(others) / FREQUENT]
        self._by_frequent = self._dense(others)
        order = np.argsort(others.words, kind="stable")
        self._count = len(others)
        self._texts = others.of_text[order]
        self._weights = others.weights[order]
        self._words = others.words[order]

    def cosines(self, texts: WordVectors, start: int, stop: int) -> NDArray[np.float32]:
        """Return the cosines (stop - start, n) of some texts, by position."""
        some = texts.part(start, stop)
        found: NDArray[np.float32] = self._dense(some) @ self._by_frequent.T
        rare = ~np.isin(some.words, self._frequent)
        of_text, weights, words = some.of_text[rare], some.weights[rare], some.words[rare]
        begins = np.searchsorted(self._words, words, "left")
        sizes = np.searchsorted(self._words, words, "right") - begins
        done = np.concatenate([[0], np.cumsum(sizes)])
        at = 0
        while at < len(words):
            end = max(at + 1, int(np.searchsorted(done, done[at] + EXPANDED, "right")) - 1)
            cut = slice(at, end)
            self._add(found, of_text[cut], weights[cut], begins[cut], sizes[cut])
            at = end
        return found

    def _dense(self, texts: WordVectors) -> NDArray[np.float32]:
        """Return the weights of the frequent words in texts: a column for each word."""
        matrix = np.zeros((len(texts), len(self._frequent)), np.float32)
        there = np.isin(texts.words, self._frequent)
        columns = np.searchsorted(self._frequent, texts.words[there])
        matrix[texts.of_text[there], columns] = texts.weights[there]
        return matrix

    def _add(
        self,
        found: NDArray[np.float32],
        of_text: NDArray[np.int64],
        weights: NDArray[np.float32],
        begins: NDArray[np.int64],
        sizes: NDArray[np.int64],
    ) -> None:
        """Add what some rare words of texts have in common with the others.

        begins, sizes: where each word stands among the words of the others.
        """
        before = np.cumsum(sizes) - sizes
        places = np.arange(sizes.sum()) + np.repeat(begins - before, sizes)
        flat = np.repeat(of_text * self._count, sizes) + self._texts[places]
        products = np.repeat(weights, sizes) * self._weights[places]
        found += np.bincount(flat, products, minlength=found.size).reshape(found.shape)
