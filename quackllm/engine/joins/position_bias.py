"""Whether answers depend on the place that a pair has in its prompt.

The pairs of a prompt stand in an order drawn by chance, so that a model without a bias says true
equally often at every place. Of each place it is told how much more often it was said there than
in the prompts that have the place; the largest of these differences, in standard errors, is
compared with those of the same answers shuffled within their prompts (a permutation test, which
assumes nothing else, holds for few prompts and needs no correction for the number of places).
Wang et al., "Large Language Models are not Fair Evaluators" (ACL 2024), show how strong such
biases are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quackllm.engine.joins.recall import CONFIDENCE, Share, share_of

PERMUTATIONS = 499
MOST_PROMPTS = 2_000
"""Prompts of one size that are looked at: enough to see a difference of a few per cent."""
AT_ONCE = 1 << 20
"""Answers that are shuffled at a time (1 MiB)."""
SEED = 42

Flags = NDArray[np.bool_]
"""What was said (prompts, places) in prompts of one size."""


@dataclass(frozen=True)
class PositionBias:
    """How true depends on the place in the prompt, at the place where it does most.

    position: that place, from 1. rate: how often true was said there; the interval holds for
        all places together. usual: how often in the prompts that have such a place.
    p_value: how often chance makes as large a difference at some place. found: whether that
        is so seldom (5 in 100) that the answers depend on the place.
    rates: how often true was said at each place. prompts: those that were looked at.
    """

    position: int
    rate: Share
    usual: float
    p_value: float
    found: bool
    rates: tuple[float, ...]
    prompts: int


def position_bias(answered: Sequence[Flags]) -> PositionBias | None:
    """Look for a bias in the answers of prompts, those of one size together.

    None without a prompt for two pairs or more.
    """
    random = np.random.default_rng(SEED)
    groups = [_drawn(each, random) for each in answered if each.shape[1] > 1 and len(each)]
    if not groups:
        return None
    places = _Places(groups)
    counts, trues = places.counts, places.trues(groups)
    apart = places.apart(trues)
    worst = int(np.argmax(apart))
    # A tie is as large, however its sums were rounded.
    as_large = places.by_chance(groups, random) >= apart[worst] - 1e-9
    p_value = (1 + int(as_large.sum())) / (1 + PERMUTATIONS)
    rate = share_of(int(trues[worst]), int(counts[worst]), 1 - (1 - CONFIDENCE) / len(counts))
    return PositionBias(
        position=worst + 1,
        rate=replace(rate, confidence=CONFIDENCE),
        usual=float(places.expected[worst] / counts[worst]),
        p_value=p_value,
        found=p_value < 1 - CONFIDENCE,
        rates=tuple((trues / counts).tolist()),
        prompts=sum(map(len, groups)),
    )


def _drawn(flags: Flags, random: np.random.Generator) -> Flags:
    if len(flags) <= MOST_PROMPTS:
        return flags
    return flags[np.sort(random.choice(len(flags), MOST_PROMPTS, replace=False))]


class _Places:
    """What is known of the places (p,), whatever the order of the answers in a prompt.

    counts: prompts that have the place. expected: how often true would be said there, by the
    share of true in each prompt.
    """

    def __init__(self, groups: Sequence[Flags]) -> None:
        self._most = max(each.shape[1] for each in groups)
        self.counts = np.zeros(self._most)
        self.expected = np.zeros(self._most)
        variance = np.zeros(self._most)
        for each in groups:
            share, size = each.mean(axis=1), each.shape[1]
            self.counts[:size] += len(each)
            self.expected[:size] += share.sum()
            variance[:size] += (share * (1 - share)).sum()
        self._error = np.sqrt(np.where(variance > 0, variance, np.inf))

    def trues(self, groups: Sequence[Flags]) -> NDArray[np.float64]:
        """How often true was said at each place (p,)."""
        return self._added([each.sum(axis=0) for each in groups])

    def _added(self, sums: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Add counts (..., places) up, of prompts of each size."""
        found = np.zeros((*sums[0].shape[:-1], self._most))
        for each in sums:
            found[..., : each.shape[-1]] += each
        return found

    def apart(self, trues: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many standard errors counts of true (..., p) are from what is usual."""
        apart: NDArray[np.float64] = np.abs(trues - self.expected) / self._error
        return apart

    def by_chance(
        self, groups: Sequence[Flags], random: np.random.Generator
    ) -> NDArray[np.float64]:
        """The largest difference of all places (PERMUTATIONS,), the answers being shuffled."""
        sums = [_shuffled_sums(each, random) for each in groups]
        largest: NDArray[np.float64] = self.apart(self._added(sums)).max(axis=-1)
        return largest


def _shuffled_sums(flags: Flags, random: np.random.Generator) -> NDArray[np.int64]:
    """How often true stands at each place (PERMUTATIONS, size) where prompts are shuffled."""
    step = max(1, AT_ONCE // flags.size)
    parts = []
    for start in range(0, PERMUTATIONS, step):
        times = min(step, PERMUTATIONS - start)
        shuffled = random.permuted(np.broadcast_to(flags, (times, *flags.shape)), axis=2)
        parts.append(shuffled.sum(axis=1))
    return np.concatenate(parts)
