"""Answers that pairs have from another question than their own, checked by a sample.

For a sample of the pairs the call itself is asked as well, half of them pairs that the other
question accepted. These answers count, and the others are estimated by them: how many matches
are missed, how many are none, and how often the two questions agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quackllm.engine.joins.recall import CONFIDENCE, Share, Stratum, recall, share_of

FALSE, TRUE, UNKNOWN = 0, 1, -1
"""What was said of a pair: nothing, where the question failed."""
LEAST_SAMPLE = 50
"""Pairs drawn for the estimates; a tenth of the prompts made where that is more."""
SEED = 42

Indices = NDArray[np.int64]


def sample_size(prompts: int) -> int:
    """Pairs that are drawn where nobody said how many."""
    return max(LEAST_SAMPLE, prompts // 10)


@dataclass(frozen=True)
class Sample:
    """Pairs, by position, drawn from those that were accepted and from the others."""

    accepted: Indices
    others: Indices

    def __len__(self) -> int:
        return len(self.accepted) + len(self.others)


@dataclass(frozen=True)
class Estimates:
    """How good the answers are. matches: of all pairs. approximate: whether any was kept."""

    matches: int
    approximate: bool
    recall: Share
    precision: Share
    agreement: Share


@dataclass(frozen=True)
class OtherAnswers:
    """What another question says of each pair (n,): TRUE, FALSE or UNKNOWN.

    left_over: positions of the pairs that were not asked about so; what is said of them does
        not matter.
    """

    answers: NDArray[np.int8]
    left_over: Indices

    def _where(self, answer: int) -> Indices:
        said = self.answers == answer
        said[self.left_over] = False
        return np.flatnonzero(said)

    def sample(self, size: int) -> Sample:
        """Draw pairs, half of them from the accepted ones."""
        accepted, others = self._where(TRUE), self._where(FALSE)
        random = np.random.default_rng(SEED)
        first = min(len(accepted), max(size // 2, size - len(others)))
        return Sample(
            np.sort(random.choice(accepted, first, replace=False)),
            np.sort(random.choice(others, min(len(others), size - first), replace=False)),
        )

    def kept(self, sample: Sample) -> Indices:
        """Positions of the pairs whose answer is that of the other question."""
        open_ = np.ones(len(self.answers), bool)
        for part in (sample.accepted, sample.others, self.left_over):
            open_[part] = False
        return np.flatnonzero(open_)

    def texts(self, pairs: Indices) -> pa.Array:
        """The answers to some pairs as the texts that a call gives, NULL where unknown."""
        said = self.answers[pairs].astype(np.int32)
        return pa.array(["false", "true"]).take(pa.array(said, mask=said == UNKNOWN))

    def estimates(self, sample: Sample, exact: NDArray[np.bool_]) -> Estimates:
        """Estimate from the call's own answers how good the others are.

        exact: whether the pairs match for which the call itself was asked: those of the
            sample, first the accepted ones, then those left over.
        """
        accepted, others = len(self._where(TRUE)), len(self._where(FALSE))
        drawn = len(sample.accepted)
        right = Stratum(accepted, drawn, int(exact[:drawn].sum()))
        missed = Stratum(others, len(sample.others), int(exact[drawn : len(sample)].sum()))
        kept = accepted - drawn
        return Estimates(
            matches=kept + int(exact.sum()),
            approximate=kept > 0 or others > len(sample.others),
            recall=_recall(right, missed),
            precision=share_of(right.matches, right.drawn),
            agreement=_agreement(right, missed),
        )


def _recall(accepted: Stratum, others: Stratum) -> Share:
    """The share of the matches that is accepted, both numbers being estimated.

    Each interval is allowed half of the error; the bounds take the worse end of both.
    """
    found, confidence = _half(accepted)
    value = recall(round(found.value * accepted.pairs), [others]).value
    low = recall(int(found.low * accepted.pairs), [others], confidence).low
    high = recall(math.ceil(found.high * accepted.pairs), [others], confidence).high
    return Share(value, low, high)


def _agreement(accepted: Stratum, others: Stratum) -> Share:
    """The share of the pairs of which both questions say the same."""
    total = accepted.pairs + others.pairs
    if not total:
        return share_of(0, 0)
    right, _ = _half(accepted)
    missed, _ = _half(others)

    def together(of_accepted: float, of_others: float) -> float:
        return (accepted.pairs * of_accepted + others.pairs * (1 - of_others)) / total

    return Share(
        together(right.value, missed.value),
        together(right.low, missed.high),
        together(right.high, missed.low),
    )


def _half(stratum: Stratum) -> tuple[Share, float]:
    """The share of a stratum that matches, with half of the error, and that confidence."""
    confidence = 1 - (1 - CONFIDENCE) / 2
    return share_of(stratum.matches, stratum.drawn, confidence), confidence
