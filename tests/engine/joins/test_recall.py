"""Promise 4 for approximate joins: what they may have missed is said, and is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quackllm.engine.joins.blocking import (
    FEWEST_PAIRS,
    Blocked,
    Indices,
    Pairs,
    Texts,
    block,
    depths,
)
from quackllm.engine.joins.recall import Stratum, clopper_pearson, recall, share_of
from quackllm.engine.neighbours import unit
from quackllm.engine.shared_words import word_vectors


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Tables of the Clopper-Pearson interval at 95 %.
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (8, 20, 0.1912, 0.6395),
    ],
)
def test_the_interval_is_that_of_the_tables(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert clopper_pearson(successes, trials, 0.05) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(0, 50), st.integers(1, 50))
def test_an_interval_holds_what_was_seen(successes: int, trials: int) -> None:
    if successes > trials:
        with pytest.raises(ValueError, match="successes"):
            clopper_pearson(successes, trials, 0.05)
        return
    low, high = clopper_pearson(successes, trials, 0.05)
    assert 0 <= low <= successes / trials <= high <= 1
    assert share_of(successes, trials).low == pytest.approx(low)


def test_without_pairs_left_out_nothing_is_missed() -> None:
    assert recall(7, []).low == 1.0
    assert recall(7, [Stratum(10, 10, 2)]).low == 1.0
    assert recall(0, [Stratum(10, 0, 0)]).low == 0.0


def texts(vectors: NDArray[Any], words: list[list[str]] | None = None) -> Texts:
    """Texts of some embeddings; no two share a word unless words are given."""
    given = pa.array(words or [[] for _ in vectors], pa.list_(pa.string()))
    return Texts(unit(vectors.astype(np.float32)), word_vectors(given))


def simulated(seed: int) -> tuple[Pairs, NDArray[np.bool_]]:
    """Two sides of random texts; matches are near each other, but for some at random."""
    random = np.random.default_rng(seed)
    left, right = int(random.integers(40, 90)), int(random.integers(40, 90))
    noise = random.uniform(0.1, 1.2)
    anchors = random.standard_normal((min(left, right), 16))
    left_vectors = random.standard_normal((left, 16))
    left_vectors[: len(anchors)] = anchors
    right_vectors = random.standard_normal((right, 16))
    right_vectors[: len(anchors)] = anchors + noise * random.standard_normal(anchors.shape)
    matches = np.zeros((left, right), bool)
    matches[np.arange(len(anchors)), np.arange(len(anchors))] = True
    matches |= random.random((left, right)) < random.choice([0, 0.001, 0.02])
    at_left, at_right = np.divmod(np.arange(left * right), right)
    pairs = Pairs(
        at_left.astype(np.int32),
        at_right.astype(np.int32),
        texts(left_vectors),
        texts(right_vectors),
        np.zeros(left * right, bool),
    )
    return pairs, matches.ravel()


def blocked(pairs: Pairs, matches: NDArray[np.bool_]) -> Blocked:
    return block(pairs, lambda some: matches[some], 0.95)


def test_the_interval_holds_the_true_recall_as_often_as_it_says() -> None:
    held = wide = 0
    for seed in range(200):
        pairs, matches = simulated(seed)
        done = blocked(pairs, matches)
        truth = done.matches / matches.sum()
        held += done.recall.low <= truth + 1e-9 and truth <= done.recall.high + 1e-9
        wide += done.recall.high - done.recall.low > 0.99
    assert held >= 0.95 * 200
    assert wide < 20  # an interval from 0 to 1 would hold everything


def test_the_target_is_reached_for_most_data() -> None:
    reached = 0
    for seed in range(1_000, 1_100):
        pairs, matches = simulated(seed)
        reached += blocked(pairs, matches).matches >= 0.95 * matches.sum()
    assert reached >= 80


def test_matches_that_are_not_near_are_looked_for_until_all_pairs_are_asked() -> None:
    pairs, _ = simulated(1)
    matches = np.random.default_rng(0).random(len(pairs.left)) < 0.3
    done = blocked(pairs, matches)
    assert done.matches >= 0.95 * matches.sum()


def test_no_match_at_all_is_said_to_be_none() -> None:
    pairs, matches = simulated(2)
    done = blocked(pairs, np.zeros_like(matches))
    assert done.matches == 0
    assert done.recall.low == 0.0 or done.asked == done.pairs


def test_few_pairs_are_all_asked() -> None:
    one = np.zeros(1, np.int32)
    side = texts(np.ones((1, 4)))
    done = block(Pairs(one, one, side, side, np.zeros(1, bool)), lambda some: some == 0, 0.95)
    assert (done.asked, done.matches, done.depth) == (1, 1, None)
    nothing = np.zeros(0, np.int32)
    none = Pairs(nothing, nothing, side, side, np.zeros(0, bool))
    assert block(none, lambda some: some < 0, 0.95).asked == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1_000))
def test_a_pair_is_never_asked_twice(seed: int) -> None:
    pairs, matches = simulated(seed)
    seen = np.zeros(len(matches), int)

    def ask(some: Indices) -> NDArray[np.bool_]:
        seen[some] += 1
        found: NDArray[np.bool_] = matches[some]
        return found

    done = block(pairs, ask, 0.9)
    assert seen.max() == 1
    assert seen.sum() == done.asked
    assert done.matches == matches[seen == 1].sum()


def test_the_depth_of_a_pair_is_its_place_among_the_neighbours_of_the_nearer_side() -> None:
    side = texts(np.array([[1, 0], [0.9, 0.1], [0, 1]]))
    at_left, at_right = np.divmod(np.arange(9), 3)
    pairs = Pairs(
        at_left.astype(np.int32), at_right.astype(np.int32), side, side, np.zeros(9, bool)
    )
    # The diagonal are the nearest; 0 and 1 come second for each other, 2 is far from both.
    assert depths(pairs).reshape(3, 3).tolist() == [[1, 2, 3], [2, 1, 2], [3, 2, 1]]


def test_pairs_that_have_to_be_asked_are_asked_however_far_apart() -> None:
    pairs, matches = simulated(3)
    always = np.zeros(len(matches), bool)
    always[-60:] = True
    asked: list[int] = []

    def ask(some: Indices) -> NDArray[np.bool_]:
        asked.extend(some.tolist())
        found: NDArray[np.bool_] = matches[some]
        return found

    block(Pairs(pairs.left, pairs.right, pairs.of_left, pairs.of_right, always), ask, 0.95)
    assert len(matches) > FEWEST_PAIRS
    assert set(range(len(matches) - 60, len(matches))) <= set(asked)


def test_a_pair_is_near_by_its_words_too() -> None:
    alike = np.ones((3, 2))
    left = texts(alike, [["dsc", "120"], ["dsc", "300"], ["dsc", "450"]])
    at_left, at_right = np.divmod(np.arange(9), 3)
    pairs = Pairs(
        at_left.astype(np.int32), at_right.astype(np.int32), left, left, np.zeros(9, bool)
    )
    assert depths(pairs).reshape(3, 3).diagonal().tolist() == [1, 1, 1]


def test_with_candidates_no_more_than_the_nearest_and_a_sample_are_asked() -> None:
    pairs, matches = simulated(5)
    done = block(pairs, lambda some: matches[some], 0.95, candidates=2)
    near = int((depths(pairs) <= 2).sum())
    assert done.depth == 2
    assert near <= done.asked - done.drawn <= near + 1
    assert 0 < done.drawn < near
    alone = block(pairs, lambda some: matches[some], 0.95, sample=0, candidates=2)
    assert (alone.asked, alone.drawn) == (near, 0)
    assert alone.recall.low < 0.1


def test_a_small_join_is_not_asked_whole_for_the_sake_of_its_estimate() -> None:
    side = texts(np.eye(30))
    at_left, at_right = np.divmod(np.arange(900), 30)
    pairs = Pairs(
        at_left.astype(np.int32), at_right.astype(np.int32), side, side, np.zeros(900, bool)
    )
    done = block(pairs, lambda some: at_left[some] == at_right[some], 0.95)
    assert done.matches == 30
    assert done.asked < 450
