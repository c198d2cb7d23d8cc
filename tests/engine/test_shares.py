"""Calls shared out among endpoints: each once, groups together, nothing lost with a member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from quackllm.engine.prefix_groups import PrefixGroup, PrefixGroups
from quackllm.engine.sending_order import SendingOrder
from quackllm.engine.shares import LEAST_SPLIT, Shares, even_share
from quackllm.udfs.prompt import render_fields

MEMBERS = ("http://a", "http://b", "http://c")


def groups_of(sizes: list[int]) -> list[PrefixGroup]:
    ends = np.cumsum(sizes).tolist()
    return [
        PrefixGroup(range(end - size, end), f"group {number}", 0)
        for number, (end, size) in enumerate(zip(ends, sizes, strict=True))
    ]


def groups_in(
    order: SendingOrder, *columns: list[str | None], most: int | None = None
) -> PrefixGroups:
    values = [pa.array(column, pa.string()) for column in columns]
    return PrefixGroups(("film", "review"), order, values, most)


@example(sizes=[3], turns=[0, 0, 1, 2, 0], lost=4, free=(0, 0, 0))
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    turns=st.lists(st.integers(0, 2), min_size=1, max_size=200),
    lost=st.integers(0, 60),
    free=st.tuples(*[st.integers(0, 64)] * 3),
)
def test_every_position_is_answered_once_whoever_asks_and_whoever_is_lost(
    sizes: list[int], turns: list[int], lost: int, free: tuple[int, int, int]
) -> None:
    shares = Shares(groups_of(sizes), MEMBERS, free=lambda m: free[m])
    answered: Counter[int] = Counter()

    def send(member: int, sender: Iterator[int]) -> bool:
        position = next(sender, None)
        if position is not None:
            answered[position] += 1
            shares.answered(member, position)
        return position is not None

    senders = [shares.sent_by(m) for m in range(len(MEMBERS))]
    for step, member in enumerate(turns):
        if step == lost:
            shares.lose(member)
        if member in shares.alive:
            send(member, senders[member])
    while True:
        while any(send(member, senders[member]) for member in sorted(shares.alive)):
            pass
        if not shares.returned:
            break
        # Lost after the others had ended: they begin again, as `Members.send` has them do.
        senders = [shares.sent_by(m) for m in range(len(MEMBERS))]
    assert answered == Counter(range(sum(sizes)))


def test_what_a_lost_member_had_sent_is_sent_again_and_known_as_such() -> None:
    shares = Shares(groups_of([4, 4, 4, 4]), MEMBERS)
    senders = [shares.sent_by(m) for m in range(len(MEMBERS))]
    sent = [next(senders[0]), next(senders[0])]
    shares.answered(0, sent[0])
    shares.lose(0)
    rest = list(senders[1]) + list(senders[2])
    assert sorted(rest) == sorted(set(range(16)) - {sent[0]})
    assert [position for position in rest if shares.is_again(position)] == [sent[1]]


def test_nothing_new_is_sent_after_a_budget_closed_the_round() -> None:
    shares = Shares(groups_of([20]), MEMBERS[:2])
    first = shares.sent_by(0)
    second = shares.sent_by(1)
    begun = next(first)
    shares.close()
    shares.lose(0)
    assert list(second) == [begun]
    assert not shares.returned


def test_a_group_is_at_home_with_the_same_member_in_every_round() -> None:
    def homes() -> list[int]:
        shares = Shares(groups_of([3] * 30), MEMBERS)
        return [next(shares.sent_by(m)) for m in range(len(MEMBERS))]

    assert homes() == homes()
    assert len(set(homes())) == len(MEMBERS)


def test_a_big_group_is_split_and_a_small_one_is_not() -> None:
    for rows, least in ((400, 150), (LEAST_SPLIT, 0)):
        shares = Shares(groups_of([rows]), MEMBERS[:2])
        senders = [shares.sent_by(m) for m in range(2)]
        counts = [0, 0]
        for turn in range(2 * rows):
            counts[turn % 2] += next(senders[turn % 2], None) is not None
        assert sum(counts) == rows
        assert min(counts) >= least


@example(sizes=[1, 1, 1, 1])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_few_rows_are_shared_out_evenly_and_their_groups_are_whole(sizes: list[int]) -> None:
    """With slots for all of them at each member, nobody takes what another one can send."""
    groups, rows = groups_of(sizes), sum(sizes)
    shares = Shares(groups, MEMBERS, free=lambda _: rows)
    sent = [set(shares.sent_by(member)) for member in range(len(MEMBERS))]
    assert sorted(position for one in sent for position in one) == list(range(rows))
    for group in groups:
        assert sum(not one.isdisjoint(group.positions) for one in sent) == 1
    assert max(map(len, sent)) <= even_share(rows, len(MEMBERS)) + max(sizes) - 1


def test_what_another_member_cannot_send_by_now_is_taken() -> None:
    free = [10, 4]
    shares = Shares(groups_of([1] * 20), MEMBERS[:2], free=lambda member: free[member])
    senders = [shares.sent_by(member) for member in range(2)]
    begun = [next(senders[1]) for _ in range(4)]
    free[1] = 0
    assert len(begun) + len(list(senders[0])) == 20
    assert not shares.has_more


def test_groups_are_rows_that_begin_with_the_same_fields() -> None:
    films: list[str | None] = ['"a"', '"b"', '"a"', '"a"']
    reviews: list[str | None] = ['"1"', '"2"', '"3"', '"4"']
    order = SendingOrder(np.array([0, 2, 3, 1]), np.zeros((4, 2), int) + np.array([0, 1]))
    groups = list(groups_in(order, films, reviews))
    assert [group.positions for group in groups] == [range(3), range(3, 4)]
    assert groups[0].shared == len(render_fields(("film",), ['"a"'])) - 1
    assert len({group.name for group in groups}) == 2


def test_rows_that_all_begin_alike_are_told_apart_by_more_fields() -> None:
    films: list[str | None] = ['"a"'] * 4
    reviews: list[str | None] = ['"1"', '"1"', '"2"', '"2"']
    order = SendingOrder(np.arange(4))
    assert len(groups_in(order, films, reviews)) == 1
    parts = groups_in(order, films, reviews, most=2)
    assert [group.positions for group in parts] == [range(2), range(2, 4)]
    assert parts.at(3) == parts[1]


def test_groups_that_are_not_too_large_stay_whole_beside_one_that_is() -> None:
    films: list[str | None] = [*['"a"'] * 4, '"b"', '"b"']
    reviews: list[str | None] = [f'"{number}"' for number in range(6)]
    groups = list(groups_in(SendingOrder(np.arange(6)), films, reviews, most=3))
    assert [len(group.positions) for group in groups] == [1, 1, 1, 1, 2]
    alone = groups_in(SendingOrder(np.arange(2)), films[4:], reviews[4:])
    assert groups[-1].name == alone[0].name, "the name says nothing of who else is there"


def test_the_name_of_a_group_depends_on_the_prefix_alone() -> None:
    def name(values: list[str | None], fields: list[int]) -> str:
        order = SendingOrder(np.arange(len(values)), np.array([fields] * len(values)))
        return groups_in(order, values, ['"x"'] * len(values))[0].name

    assert name(['"a"', '"b"'], [0, 1]) == name(['"a"', '"a"', None], [0, 1])
    assert name(['"a"', '"b"'], [0, 1]) != name(['"b"', '"a"'], [0, 1])
    assert name(['"a"', '"b"'], [0, 1]) != name(['"a"', '"b"'], [1, 0])
