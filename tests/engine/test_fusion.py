"""Reciprocal rank fusion: the published formula, whatever the rankings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.fusion import fused

rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=4)


@given(rankings)
def test_a_score_is_the_sum_of_reciprocal_ranks(given_: list[list[int]]) -> None:
    things, scores = fused([np.array(each, np.int64) for each in given_])
    expected = {
        thing: sum(1 / (60 + each.index(thing) + 1) for each in given_ if thing in each)
        for thing in {thing for each in given_ for thing in each}
    }
    assert set(things.tolist()) == set(expected)
    assert np.allclose([expected[thing] for thing in things.tolist()], scores, rtol=1e-12, atol=0)
    ordered = sorted(zip((-scores).tolist(), things.tolist(), strict=True))
    assert [thing for _, thing in ordered] == things.tolist()


def test_rankings_that_agree_are_kept() -> None:
    things, scores = fused([np.array([3, 1]), np.array([3, 1])])
    assert things.tolist() == [3, 1]
    assert scores.tolist() == [2 / 61, 2 / 62]
