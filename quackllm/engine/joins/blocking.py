"""Blocking: of all pairs of two sides, only those of near texts are asked.

Texts are near by their meaning (the cosine of their embeddings) and by their words (the cosine of
their TF-IDF vectors); the two are added up. A pair is as near as the nearer of its two places: that
of the right text among the neighbours of the left one, and the other way round. Pairs are asked
layer by layer: the nearest neighbours, the second nearest, the third, the fourth, the fifth and
sixth, and so on, half as deep again each time. Before a layer is asked whole it is asked in part,
to see how many matches it would add; where that is too few to miss the target, the layers from
there on are left out ("Are two texts a match?" is never guessed: a pair that is left out is not in
the result).

What is missing is then estimated from a sample of the pairs left out, drawn after the cut was
made, so that it does not depend on the luck that the cut was made with (see `recall`). Kang et
al., "Approximate Selection with Guarantees using Proxies" (VLDB 2020), sample by a proxy's score
in the same way, and bound the recall by the normal distribution, which rare matches do not
follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quackllm.engine.joins.recall import Share, Stratum, recall
from quackllm.engine.shared_words import SharedWords, WordVectors

SEED = 42
FEWEST_PAIRS = 400
"""Pairs below which all are asked: a sample of fewer would say nothing."""
DEPTH = 8
"""Neighbours of each text that are expected to be asked, before anything is known."""
SHOWING = 8
"""Matches that a sample of a layer shows on average if the layer is as large as what may be
missed."""
LEAST_SAMPLE = 200
"""Pairs drawn to estimate the recall; a quarter of those asked where that is more, and where it
was said how many candidates there are."""
FEW_OF = 20
"""Of a small join no more are drawn than one in so many of its pairs."""
CAUTION = 1.5
"""Standard errors that are added to what is expected behind a depth, before that is believed."""
NEAR = 8
"""How many times deeper than the cut the pairs are of which more are drawn than of the others."""
BLOCK = 1 << 22
"""Similarities kept at a time (16 MiB)."""

Indices = NDArray[np.int64]
Ask = Callable[[Indices], NDArray[np.bool_]]
"""Asks pairs, by their positions: which of them match. A failed one does not."""


@dataclass(frozen=True)
class Texts:
    """The texts (n,) of one side. meaning: (n, dimensions), embeddings of length 1."""

    meaning: NDArray[np.float32]
    words: WordVectors


@dataclass(frozen=True)
class Pairs:
    """Pairs (n,) of the texts of two sides, by position.

    always: whether a pair is to be asked however far apart it is, such as one of a text whose
        embedding failed.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    of_left: Texts
    of_right: Texts
    always: NDArray[np.bool_]


@dataclass(frozen=True)
class Blocked:
    """What blocking did. depth: neighbours of each text that were asked, None for all pairs."""

    pairs: int
    asked: int
    drawn: int
    matches: int
    depth: int | None
    recall: Share


def is_worth_it(pairs: int, left: int, right: int) -> bool:
    """Whether fewer than half of the pairs of so many texts are expected to be asked."""
    return pairs >= FEWEST_PAIRS and 2 * expected_asked(pairs, left, right) < pairs


def expected_asked(pairs: int, left: int, right: int, candidates: int | None = None) -> int:
    """Pairs that blocking is expected to ask, its sample included."""
    if candidates is None and pairs < FEWEST_PAIRS:
        return pairs
    near = min(pairs, (candidates or DEPTH) * (left + right))
    return min(pairs, near + _sampled(near, pairs, candidates))


def _sampled(asked: int, pairs: int, candidates: int | None) -> int:
    """Pairs that are drawn to estimate the recall where nobody has said how many."""
    least = 1 if candidates else min(LEAST_SAMPLE, pairs // FEW_OF)
    return max(least, asked // 4)


def block(
    pairs: Pairs,
    ask: Ask,
    target: float,
    sample: int | None = None,
    candidates: int | None = None,
) -> Blocked:
    """Ask near pairs until a share `target` of the matches is expected to be found.

    sample: pairs that are drawn to estimate the recall, None for a number of our choice.
    candidates: neighbours of each text that are asked, whatever they hold; None for as many
        as the target needs.
    """
    count = len(pairs.left)
    if not count or (candidates is None and count < FEWEST_PAIRS):
        return _all(ask, count)
    search = _Search(depths(pairs), ask, target)
    search.take(np.flatnonzero(pairs.always))
    depth = search.cut() if candidates is None else search.take_to(candidates)
    drawn = _sampled(search.asked, count, candidates) if sample is None else sample
    found = search.matches
    strata = search.draw(depth, drawn)
    return Blocked(
        pairs=count,
        asked=search.asked,
        drawn=sum(stratum.drawn for stratum in strata),
        matches=search.matches,
        depth=depth if search.asked < count else None,
        recall=recall(found, strata),
    )


def _all(ask: Ask, count: int) -> Blocked:
    matches = int(ask(np.arange(count)).sum())
    return Blocked(count, count, 0, matches, None, Share(1.0, 1.0, 1.0))


class _Search:
    """The pairs of a join in layers by depth, and what is known of them."""

    def __init__(self, depth: NDArray[np.int32], ask: Ask, target: float) -> None:
        self._depth = depth
        self._deepest = int(depth.max())
        self._ask = ask
        self._target = target
        self._random = np.random.default_rng(SEED)
        self._answered = np.zeros(len(depth), bool)
        self.matches = 0

    @property
    def asked(self) -> int:
        """Pairs asked so far."""
        return int(self._answered.sum())

    def take(self, pairs: Indices) -> int:
        """Ask pairs that were not asked; return how many of them match."""
        if not len(pairs):
            return 0
        found = int(self._ask(pairs).sum())
        self._answered[pairs] = True
        self.matches += found
        return found

    def take_to(self, depth: int) -> int:
        """Ask all pairs down to a depth, and return it."""
        self.take(self._open(0, depth))
        return depth

    def cut(self) -> int:
        """Ask layers until those behind hold too little; return the depth asked."""
        depth = self.take_to(1)
        while depth < self._deepest and not self._enough_at(depth):
            depth = self.take_to(max(depth + 1, depth * 3 // 2))
        return depth

    def _enough_at(self, depth: int) -> bool:
        """Whether so little is expected behind a depth that the target is met without it.

        Looks at parts of the layers behind, the nearest first, until one holds next to
        nothing; those behind it are taken to hold half as much each, together as much again.
        The standard error of what was seen is added (`CAUTION`). A layer that was looked at
        whole, since there are few matches, misses nothing.
        """
        allowed = (1 / self._target - 1) * self.matches
        share = min(1.0, SHOWING / allowed) if allowed else 1.0
        missed, variance, at = 0.0, 0.0, depth
        while at < self._deepest:
            layer = self._open(at, 2 * at)
            at *= 2
            if not len(layer):
                continue
            drawn = self._drawn(layer, math.ceil(share * len(layer)))
            found = self.take(drawn)
            rest = len(layer) / len(drawn) - 1
            missed += found * rest
            variance += (found + 1) * rest * rest
            if missed + CAUTION * math.sqrt(variance) > allowed:
                return False
            in_layer = found * len(layer) / len(drawn)
            if in_layer <= allowed / 4:
                missed += in_layer
                break
        return missed + CAUTION * math.sqrt(variance) <= allowed

    def draw(self, depth: int, size: int) -> list[Stratum]:
        """Ask a sample of the pairs left out, half of it of the nearer ones."""
        near = self._open(depth, NEAR * depth)
        far = self._open(NEAR * depth, None)
        from_near = min(len(near), max(size // 2, size - len(far)))
        strata = []
        for pairs, wanted in ((near, from_near), (far, size - from_near)):
            drawn = self._drawn(pairs, wanted)
            if len(pairs):
                strata.append(Stratum(len(pairs), len(drawn), self.take(drawn)))
        return strata

    def _open(self, above: int, most: int | None) -> Indices:
        """Pairs not asked yet that are deeper than `above`, and at most as deep as `most`."""
        wanted = ~self._answered & (self._depth > above)
        if most is not None:
            wanted &= self._depth <= most
        return np.flatnonzero(wanted)

    def _drawn(self, pairs: Indices, size: int) -> Indices:
        if size >= len(pairs):
            return pairs
        return np.sort(self._random.choice(pairs, size, replace=False))


def depths(pairs: Pairs) -> NDArray[np.int32]:
    """Return how near each pair (n,) is: 1 where one text is the other's nearest, 2, 3, ...

    Only texts count that are paired with it.
    """
    similarity = similarities(pairs)
    return np.minimum(_places(pairs.left, similarity), _places(pairs.right, similarity))


def similarities(pairs: Pairs) -> NDArray[np.float32]:
    """Return how near the texts of each pair are (n,): the sum of two cosines."""
    found = np.empty(len(pairs.left), np.float32)
    left, right = pairs.of_left, pairs.of_right
    shared = SharedWords(right.words)
    count = len(left.meaning)
    step = max(1, BLOCK // max(1, len(right.meaning)))
    order = np.argsort(pairs.left, kind="stable")
    starts = range(0, count, step)
    edges = np.searchsorted(pairs.left[order], [*starts, count])
    for number, start in enumerate(starts):
        some = order[edges[number] : edges[number + 1]]
        if len(some):
            near = left.meaning[start : start + step] @ right.meaning.T
            near += shared.cosines(left.words, start, min(start + step, count))
            found[some] = near[pairs.left[some] - start, pairs.right[some]]
    return found


def _places(of: NDArray[np.int32], similarity: NDArray[np.float32]) -> NDArray[np.int32]:
    """The place (n,) of each pair among those of the same text, from 1, the nearest first."""
    order = np.lexsort((-similarity, of))
    texts = of[order]
    first = np.flatnonzero(np.concatenate([[True], texts[1:] != texts[:-1]]))
    counts = np.diff([*first, len(texts)])
    places = np.empty(len(of), np.int32)
    places[order] = np.arange(len(of)) - np.repeat(first, counts) + 1
    return places
