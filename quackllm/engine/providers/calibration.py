"""Labels chosen by log-probability, with the bias of the prompt taken off.

A small model that is asked for one of several labels tends to say the same one
whatever the row is: the wording of the prompt and the frequency of the label's first
token outweigh the row. Contextual calibration (Zhao et al. 2021, "Calibrate Before
Use") asks the same question about a row without content and compares: the label
chosen is the one that the row made more likely than that.

The score of a label is the log-probability that the answer begins with it, read off
the distribution of the first token: the tokens that begin this label and no other.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from quackllm.udfs.prompt import neutral_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

Distribution = list[tuple[str, float]]
"""The likeliest first tokens of an answer: text and natural log-probability."""

# Labels that share more than a first token's usual beginning cannot be told apart by it.
_TELLING_LETTERS = 3
_FEWEST_LETTERS = 2
_SURROUNDINGS = " \"'`*\n\t"


def can_tell_apart(labels: Sequence[str]) -> bool:
    """Tell whether the first token of an answer decides between the labels."""
    beginnings = {_plain(label)[:_TELLING_LETTERS] for label in labels}
    return len(beginnings) == len(labels) > 1 and "" not in beginnings


def without_content(neutral: str) -> str:
    """Return the row that the scores are compared with: every field is an empty text.

    The word of a placeholder such as "N/A" would itself make some labels likelier.
    """
    return neutral_fields(list(json.loads(neutral)))


def label_scores(tokens: Distribution, labels: Sequence[str]) -> list[float] | None:
    """Return the log-probability of each label; None when no label is among the tokens.

    A label that is not among them gets that of the least likely token, which it is
    at most. Case and quotes around a label do not matter. A single letter counts only
    for a label that is no longer: it begins too much else.
    """
    found = _beginnings(tokens, labels)
    if not any(found):
        return None
    floor = min(logprob for _, logprob in tokens)
    return [_log_sum_exp(logprobs) if logprobs else floor for logprobs in found]


def unseen(tokens: Distribution, labels: Sequence[str]) -> bool:
    """Tell whether some label has no token that begins it and no other."""
    return not all(_beginnings(tokens, labels))


def _beginnings(tokens: Distribution, labels: Sequence[str]) -> list[list[float]]:
    """Return for each label the log-probabilities of the tokens that begin only it."""
    plain = [_plain(label) for label in labels]
    found: list[list[float]] = [[] for _ in labels]
    for token, logprob in tokens:
        start = _plain(token)
        begun = [
            at
            for at, label in enumerate(plain)
            if label.startswith(start) and len(start) >= min(_FEWEST_LETTERS, len(label))
        ]
        if len(begun) == 1:
            found[begun[0]].append(logprob)
    return found


def likeliest(scores: Sequence[float], baseline: Sequence[float], labels: Sequence[str]) -> str:
    """Return the label whose score rose most above the baseline; the first of equals."""
    gains = [score - base for score, base in zip(scores, baseline, strict=True)]
    return labels[gains.index(max(gains))]


def _plain(text: str) -> str:
    return text.strip(_SURROUNDINGS).casefold()


def _log_sum_exp(logprobs: Sequence[float]) -> float:
    top = max(logprobs)
    return top + math.log(sum(math.exp(logprob - top) for logprob in logprobs))
