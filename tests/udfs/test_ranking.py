"""Ranks follow from comparisons alone: the same for the same values, and none from a failure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.errors import CallError, CallTimedOut
from quackllm.udfs.base import ALL, Wanted
from quackllm.udfs.ranking import (
    Compare,
    End,
    Outcome,
    Pair,
    Ranking,
    drawn_order,
    end_of,
    expected_comparisons,
    is_swapped,
)
from quackllm.udfs.rounds import in_step

Fails = Callable[[Pair], bool]


class Judge:
    """Compares numbers by their place in `order`; counts comparisons and rounds."""

    def __init__(self, order: Sequence[int], wrong: Callable[[Pair], bool] | None = None) -> None:
        self.place = {number: place for place, number in enumerate(order)}
        self.wrong = wrong or (lambda pair: False)
        self.ends: dict[End, int] = {"first": order[0], "last": order[-1]} if order else {}
        self.asked: set[Pair] = set()
        self.rounds = 0

    def __call__(self, pairs: Sequence[Pair]) -> list[Outcome]:
        self.rounds += 1
        self.asked.update(pairs)
        return [(self.place[a] < self.place[b]) is not self.wrong((a, b)) for a, b in pairs]


def noisy(share: float, seed: int = 0) -> Callable[[Pair], bool]:
    return lambda pair: random.Random(f"{pair} {seed}").random() < share


def shuffled(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).sample(range(count), count)


@given(st.permutations(range(40)), st.integers(0, 45), st.booleans())
def test_wanted_ranks_are_those_of_the_true_order(order: list[int], count: int, last: bool) -> None:
    wanted = Wanted(last=count) if last else Wanted(first=count)
    ranks = Ranking(40, wanted).run(Judge(order))
    assert all(order[rank - 1] == number for number, rank in ranks.items())
    needed = order[40 - min(count, 40) :] if last else order[:count]
    assert set(needed) <= set(ranks)


@given(st.permutations(range(30)))
def test_a_full_sort_ranks_everything(order: list[int]) -> None:
    ranks = Ranking(30, ALL).run(Judge(order))
    assert [number for number, _ in sorted(ranks.items(), key=lambda item: item[1])] == order


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("first", [1, 10, 100])
def test_the_first_ranks_are_those_of_the_full_sort_whatever_contradicts(
    share: float, first: int
) -> None:
    order, wrong = shuffled(400), noisy(share)
    all_, some = Judge(order, wrong), Judge(order, wrong)
    whole = Ranking(400, ALL).run(all_)
    part = Ranking(400, Wanted(first=first)).run(some)
    assert sorted(whole.values()) == list(range(1, 401))
    assert {n: r for n, r in part.items() if r <= first} == {
        n: r for n, r in whole.items() if r <= first
    }
    assert some.asked <= all_.asked


@pytest.mark.parametrize("seed", range(5))
def test_the_first_ten_of_two_thousand_take_few_comparisons(seed: int) -> None:
    judge = Judge(shuffled(2_000, seed))
    ranks = Ranking(2_000, Wanted(first=10)).run(judge)
    assert sum(rank <= 10 for rank in ranks.values()) == 10
    assert len(judge.asked) < 2 * 2_000
    assert judge.rounds < 20
    last = Judge(shuffled(2_000, seed))
    Ranking(2_000, Wanted(last=10)).run(last)
    assert len(last.asked) < 3.5 * 2_000


def test_a_full_sort_takes_about_n_log_n_comparisons_in_log_n_rounds() -> None:
    judge = Judge(shuffled(2_000))
    Ranking(2_000, ALL).run(judge)
    assert len(judge.asked) < 1.3 * 2_000 * math.log2(2_000)
    assert judge.rounds < 50


@pytest.mark.parametrize("count", [1, 2, 5, 6, 30, 300, 2_000])
@pytest.mark.parametrize("wanted", [ALL, Wanted(first=1), Wanted(first=10), Wanted(last=10)])
def test_the_estimate_is_near(count: int, wanted: Wanted) -> None:
    taken = []
    for seed in range(5):
        judge = Judge(shuffled(count, seed))
        Ranking(count, wanted).run(judge)
        taken.append(len(judge.asked))
    expected = expected_comparisons(count, wanted)
    assert 0.6 * expected - 10 <= sum(taken) / 5 <= 1.6 * expected + 10


def failing(judge: Judge, fails: Callable[[Pair], bool]) -> Compare:
    """A judge some of whose comparisons fail."""

    def compare(pairs: Sequence[Pair]) -> list[Outcome]:
        found = judge(pairs)
        return [
            CallTimedOut("late") if fails(pair) else outcome
            for pair, outcome in zip(pairs, found, strict=True)
        ]

    return compare


@given(st.permutations(range(60)), st.sets(st.integers(0, 59), max_size=8))
def test_values_whose_comparisons_fail_have_no_rank(order: list[int], bad: set[int]) -> None:
    ranking = Ranking(60, ALL)
    ranks = ranking.run(failing(Judge(order), lambda pair: bool(bad & set(pair))))
    assert set(ranks).isdisjoint(ranking.set_aside)
    assert set(ranks) | set(ranking.set_aside) == set(range(60))
    assert bad <= set(ranking.set_aside)
    placed = [number for number, _ in sorted(ranks.items(), key=lambda item: item[1])]
    assert placed == [number for number in order if number in ranks]
    assert sorted(ranks.values()) == list(range(1, len(ranks) + 1))
    assert all(isinstance(failure, CallError) for failure in ranking.set_aside.values())


@pytest.mark.parametrize("first", [5, 20])
def test_failures_leave_the_first_ranks_those_of_the_full_sort(first: int) -> None:
    order, fails = shuffled(300), noisy(0.02, 1)
    whole = Ranking(300, ALL)
    all_ = whole.run(failing(Judge(order), fails))
    some = Ranking(300, Wanted(first=first)).run(failing(Judge(order), fails))
    assert {n: r for n, r in some.items() if r <= first} == {
        n: r for n, r in all_.items() if r <= first
    }


def test_when_nothing_is_answered_nothing_has_a_rank_and_asking_ends() -> None:
    ranking, judge = Ranking(500, ALL), Judge(range(500))
    assert ranking.run(failing(judge, lambda pair: True)) == {}
    assert len(ranking.set_aside) == 500
    assert len(judge.asked) < 5_000


ENDS: tuple[End, ...] = ("first", "last")


@given(st.integers(1, 30), st.floats(0, 0.5), st.integers(), st.sampled_from(ENDS))
def test_an_end_is_that_of_the_full_sort_whatever_contradicts(
    count: int, share: float, seed: int, end: End
) -> None:
    order, wrong = shuffled(count, seed), noisy(share, seed)
    whole = Ranking(count, ALL).run(Judge(order, wrong))
    [found] = in_step([end_of(range(count), end)], Judge(order, wrong))
    assert isinstance(found, int)
    assert whole[found] == (1 if end == "first" else count)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("count", "most"), [(2, (1, 1)), (3, (3, 3)), (4, (4, 4)), (5, (7, 7)), (100, (180, 270))]
)
def test_an_end_takes_few_comparisons(count: int, most: tuple[int, int], end: End) -> None:
    for seed in range(10):
        judge = Judge(shuffled(count, seed))
        assert in_step([end_of(range(count), end)], judge) == [judge.ends[end]]
        assert len(judge.asked) <= most[end == "last"]


@given(st.integers(2, 40), st.floats(0, 0.4), st.integers(), st.sampled_from(ENDS))
def test_a_failure_is_never_a_wrong_end(count: int, share: float, seed: int, end: End) -> None:
    judge, fails = Judge(shuffled(count, seed)), noisy(share, seed)
    [found] = in_step([end_of(range(count), end)], failing(judge, fails))
    assert found == judge.ends[end] or isinstance(found, CallError)


@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize("end", ENDS)
def test_a_failure_that_decides_nothing_is_no_matter(count: int, end: End) -> None:
    for seed in range(10):
        judge, fails = Judge(shuffled(count, seed)), noisy(0.05, seed)

        def fails_of_others(pair: Pair, out: int = judge.ends[end], fails: Fails = fails) -> bool:
            return out not in pair and fails(pair)

        compare = failing(judge, fails_of_others)
        assert in_step([end_of(range(count), end)], compare) == [judge.ends[end]]


def test_works_that_end_at_different_times_share_their_rounds() -> None:
    def work(rounds: int) -> Generator[list[int], Sequence[int], int]:
        total = 0
        for number in range(rounds):
            total += sum((yield [number] * number))
        return total

    rounds: list[list[int]] = []

    def answer(asked: Sequence[int]) -> Sequence[int]:
        rounds.append(list(asked))
        return asked

    assert in_step([work(0), work(3), work(2), work(4)], answer) == [0, 5, 1, 14]
    assert rounds == [[], [1, 1, 1], [2, 2, 2, 2], [3, 3, 3]]
    assert in_step([], answer) == []


@given(st.lists(st.text(), unique=True, max_size=50), st.randoms())
def test_the_draw_depends_on_the_values_alone(texts: list[str], dice: random.Random) -> None:
    other = list(texts)
    dice.shuffle(other)
    assert [texts[at] for at in drawn_order(texts)] == [other[at] for at in drawn_order(other)]


@given(st.text(), st.text())
def test_two_values_are_shown_in_one_order(one: str, other: str) -> None:
    if one != other:
        assert is_swapped(one, other) is not is_swapped(other, one)
