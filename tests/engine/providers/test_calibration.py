"""Labels by log-probability: the arithmetic, without a model."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.calibration import (
    can_tell_apart,
    label_scores,
    likeliest,
    without_content,
)

LOGPROBS = st.floats(min_value=-30, max_value=0)


@pytest.mark.parametrize(
    ("labels", "apart"),
    [
        (("POSITIVE", "NEGATIVE"), True),
        (("yes", "no"), True),
        (("A", "B"), True),
        (("billing error", "billing refund"), False),
        (("Sport", "sports"), False),
        (("only",), False),
        (("***", "b"), False),
    ],
)
def test_labels_are_scored_only_when_their_first_token_tells_them_apart(
    labels: tuple[str, ...], apart: bool
) -> None:
    assert can_tell_apart(labels) is apart


def test_every_way_to_begin_a_label_counts_and_what_begins_two_does_not() -> None:
    tokens = [("no", -1.0), (" Neg", -2.0), ("NEG", -3.0), ("Ne", -4.0), ("N", -0.1), ("x", -9.0)]
    scores = label_scores(tokens, ("negative", "neutral"))
    assert scores is not None
    assert scores[0] == pytest.approx(math.log(math.exp(-2) + math.exp(-3)))
    assert scores[1] == -9.0


def test_no_label_among_the_tokens_is_no_score() -> None:
    assert label_scores([("The", -1.0)], ("yes", "no")) is None
    assert label_scores([], ("yes", "no")) is None


def test_the_label_that_the_row_made_likelier_wins_over_the_one_that_always_leads() -> None:
    assert likeliest([-1.0, -2.0], [-0.5, -4.0], ("always", "now")) == "now"


@given(
    scores=st.lists(LOGPROBS, min_size=2, max_size=5),
    shift=LOGPROBS,
    data=st.data(),
)
def test_a_bias_that_all_labels_share_changes_nothing(
    scores: list[float], shift: float, data: st.DataObject
) -> None:
    size = len(scores)
    baseline = data.draw(st.lists(LOGPROBS, min_size=size, max_size=size))
    gains = [round(score - base, 6) for score, base in zip(scores, baseline, strict=True)]
    if len(set(gains)) < size:
        return  # a tie may fall either way once it is rounded
    labels = tuple(map(str, range(size)))
    shifted = [base + shift for base in baseline]
    assert likeliest(scores, baseline, labels) == likeliest(scores, shifted, labels)


def test_the_row_without_content_keeps_its_fields() -> None:
    assert json.loads(without_content('{"a\\"b": "N/A", "é": "N/A"}')) == {'a"b': "", "é": ""}
