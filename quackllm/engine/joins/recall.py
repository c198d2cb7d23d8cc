"""How much an approximate join has found: an estimate from a sample, and its interval.

The matches among the pairs that were asked are known. Those among the pairs that were left out
are estimated from a stratified random sample of them, for which the model is asked what it
would have been asked anyway. The interval of each stratum is the one of Clopper and Pearson
("The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika
1934); strata are combined by Bonferroni's inequality. Nothing is assumed of how similar pairs and
matches go together, so that the interval holds the truth at least as often as it says, for
samples of any size. The price is its width: without a single match among n of N pairs left out,
some 4 N / n matches cannot be excluded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Stratum:
    """Pairs that were left out: how many there are, how many were drawn, how many match."""

    pairs: int
    drawn: int
    matches: int

    @property
    def expected(self) -> float:
        """Matches in the stratum, as far as the sample tells."""
        return self.pairs * self.matches / self.drawn if self.drawn else 0.0


@dataclass(frozen=True)
class Share:
    """An estimate of a share, and the interval that holds it with `confidence`."""

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE


def recall(found: int, left_out: Sequence[Stratum], confidence: float = CONFIDENCE) -> Share:
    """Estimate which share of all matches is found.

    found: matches among the pairs asked, those drawn from `left_out` not included; the drawn
        ones are found, too, since their answers are kept.
    Without any match, found or expected, nothing is missed: 1, from 0 to 1.
    """
    drawn = sum(stratum.matches for stratum in left_out)
    total = found + drawn
    error = (1 - confidence) / max(1, sum(0 < s.drawn < s.pairs or not s.drawn for s in left_out))
    lows, highs = [], []
    for stratum in left_out:
        low, high = _matches(stratum, error)
        lows.append(max(low, stratum.matches))
        highs.append(high)
    expected = sum(stratum.expected for stratum in left_out)
    return Share(
        _part(total, found + expected),
        _part(total, found + sum(highs)),
        _part(total, found + sum(lows)),
        confidence,
    )


def _part(total: float, of: float) -> float:
    return total / of if of else 1.0


def _matches(stratum: Stratum, error: float) -> tuple[float, float]:
    """The interval for the matches of a stratum, wrong with probability `error` at most."""
    if not stratum.drawn:
        return 0.0, float(stratum.pairs)
    if stratum.drawn >= stratum.pairs:
        return float(stratum.matches), float(stratum.matches)
    low, high = clopper_pearson(stratum.matches, stratum.drawn, error)
    certain = stratum.pairs - (stratum.drawn - stratum.matches)  # those drawn do not match
    return low * stratum.pairs, min(high * stratum.pairs, float(certain))


def share_of(matches: int, drawn: int, confidence: float = CONFIDENCE) -> Share:
    """Estimate a share from a simple random sample; of no sample it is from 0 to 1."""
    if not drawn:
        return Share(0.0, 0.0, 1.0, confidence)
    low, high = clopper_pearson(matches, drawn, 1 - confidence)
    return Share(matches / drawn, low, high, confidence)


def clopper_pearson(successes: int, trials: int, error: float) -> tuple[float, float]:
    """Return the interval for a probability, wrong with probability `error` at most.

    Drawing without replacement from a finite set only makes it more certain. Raises ValueError
    unless 0 <= successes <= trials and there is a trial.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials")
    low = high = 0.0
    if successes:
        low = _where_tail_is(error / 2, trials - successes, trials)
        low = 1 - low
    high = 1.0 if successes == trials else _where_tail_is(error / 2, successes, trials)
    return low, high


def _where_tail_is(error: float, most: int, trials: int) -> float:
    """The probability at which at most `most` successes of `trials` are as likely as `error`."""
    below, above = 0.0, 1.0
    for _ in range(60):
        middle = (below + above) / 2
        if _at_most(most, trials, middle) > error:
            below = middle
        else:
            above = middle
    return (below + above) / 2


def _at_most(most: int, trials: int, probability: float) -> float:
    """The probability of at most so many successes of a binomial distribution."""
    if probability <= 0:
        return 1.0
    if probability >= 1:
        return 1.0 if most >= trials else 0.0
    yes, no = math.log(probability), math.log1p(-probability)
    whole = math.lgamma(trials + 1)
    # The fewer terms are added; they fall off fast from the middle of the distribution.
    if most > trials // 2:
        return 1 - _at_most(trials - most - 1, trials, 1 - probability)
    logs = [
        whole - math.lgamma(i + 1) - math.lgamma(trials - i + 1) + i * yes + (trials - i) * no
        for i in range(most + 1)
    ]
    return math.fsum(map(math.exp, logs))
