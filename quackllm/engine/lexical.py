r"""How well texts match the words of questions: BM25.

The function is that of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25
and Beyond" (2009), with the inverse document frequency that is never negative (as Lucene has
it). Words are runs of letters and digits, in lower case and without accents; nothing is
stemmed, and no word is left out for being frequent, which this weight does by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
"""How fast a word that comes again counts for less: the usual value."""

B = 0.75
"""How much longer texts are held against: the usual value."""

WORDS = r"regexp_extract_all(lower(strip_accents({text})), '[\p{{L}}\p{{N}}]+')"
"""SQL for the words of a text."""


@dataclass(frozen=True)
class Postings:
    """In which texts the words of questions stand.

    words: by word, in any order, its texts (indices, ascending) and how often it stands in
        each. lengths: (n,), words of each text.
    """

    words: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    lengths: NDArray[np.int64]


def bm25(question: Sequence[str], postings: Postings) -> NDArray[np.float64]:
    """Score every text for the words of a question, (n,); 0 where it has none of them.

    A word that stands several times in the question counts once. Words are added in
    alphabetical order, so that equal questions have equal scores to the last bit.
    """
    n = len(postings.lengths)
    scores = np.zeros(n)
    if not n:
        return scores
    mean = postings.lengths.mean() or 1.0
    for word in sorted(set(question)):
        if word not in postings.words:
            continue
        texts, times = postings.words[word]
        weight = np.log1p((n - len(texts) + 0.5) / (len(texts) + 0.5))
        long = K1 * (1 - B + B * postings.lengths[texts] / mean)
        scores[texts] += weight * times * (K1 + 1) / (times + long)
    return scores
