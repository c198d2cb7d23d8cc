"""Groups are what is connected, in whatever order the answers come."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.clustering.closure import components, grouped

Pairs = Sequence[tuple[int, int]]

N = 12
PAIRS = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=30)


def positions(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def reached(pairs: Pairs) -> list[int]:
    """The smallest position that each reaches, by spreading until nothing changes."""
    smallest = list(range(N))
    while True:
        before = list(smallest)
        for a, b in pairs:
            smallest[a] = smallest[b] = min(smallest[a], smallest[b])
        if smallest == before:
            return smallest


@settings(deadline=None)
@given(PAIRS)
def test_components_are_what_spreading_finds(pairs: list[tuple[int, int]]) -> None:
    assert components(N, *positions(pairs)).tolist() == reached(pairs)


@settings(deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_answers_makes_no_difference(
    pairs: list[tuple[int, int]], shuffle: random.Random
) -> None:
    other = [(b, a) if shuffle.random() < 0.5 else (a, b) for a, b in pairs]
    shuffle.shuffle(other)
    assert np.array_equal(components(N, *positions(pairs)), components(N, *positions(other)))


def test_what_contradicts_and_what_is_missing_is_counted() -> None:
    pairs = [(0, 1), (1, 2), (0, 2), (0, 3), (3, 4), (2, 4), (1, 0)]
    same = [True, True, False, False, None, None, None]
    found = grouped(6, *positions(pairs), same)
    assert found.numbers.tolist() == [1, 1, 1, 2, 3, 4]
    assert found.conflicts.tolist() == [1, 1, 1, 0, 0, 0], "0 and 2 are in one group"
    assert found.unanswered.tolist() == [2, 2, 2, 1, 2, 0]


@settings(deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_no_answer_groups_nothing_and_none_is_lost(
    pairs: list[tuple[int, int]], draw: random.Random
) -> None:
    same = [draw.choice([True, False, None]) for _ in pairs]
    found = grouped(N, *positions(pairs), same)
    of = reached([pair for pair, answer in zip(pairs, same, strict=True) if answer])
    numbers = {smallest: at for at, smallest in enumerate(sorted(set(of)), 1)}
    assert found.numbers.tolist() == [numbers[smallest] for smallest in of]
    for at in range(N):
        answers = [
            answer
            for (a, b), answer in zip(pairs, same, strict=True)
            if (of[a] == of[b] == of[at]) or (answer is None and of[at] in (of[a], of[b]))
        ]
        assert found.conflicts[at] == answers.count(False)
        assert found.unanswered[at] == answers.count(None)


def test_nothing_and_one() -> None:
    assert components(0, *positions([])).tolist() == []
    assert components(1, *positions([(0, 0)])).tolist() == [0]
    assert grouped(0, *positions([]), []).numbers.tolist() == []
    assert grouped(1, *positions([]), []).numbers.tolist() == [1]
