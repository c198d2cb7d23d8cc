"""An answer about a long list is one about all of it, and a change redoes its path alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.reduction import (
    Step,
    cut,
    merges_expected,
    pieces,
    reduce_lists,
    room,
    step_call,
    tokens_of,
    values_of,
)
from quackllm.errors import CallError, InvalidAnswer
from quackllm.udfs.base import Answered, Call
from quackllm.udfs.registry import Functions

TEXTS = st.lists(st.text(max_size=40).map(json.dumps), max_size=60)


def call_of(**options: object) -> Call:
    return Functions.load().bind("llm_reduce", {"task": "add them up"}, options, ["n"])


class Adding:
    """A model that adds numbers up, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[Step, str]] = Counter()
        self.rounds = 0

    def __call__(self, step: Step, texts: Sequence[str]) -> list[Answered]:
        self.rounds += 1
        self.asked.update((step, text) for text in texts)
        return [str(sum(int(item) for item in json.loads(text))) for text in texts]


@given(TEXTS, st.integers(4, 200), st.integers(1, 3))
def test_chunks_are_the_items_in_order_and_fit(items: list[str], limit: int, fewest: int) -> None:
    chunks = list(cut(items, limit, fewest))
    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) >= fewest for chunk in chunks[:-1])
    for chunk in chunks:
        assert len(chunk) <= fewest or sum(map(tokens_of, chunk)) <= limit


@given(st.text(), st.integers(2, 50))
def test_pieces_are_the_text_and_fit(text: str, limit: int) -> None:
    found = [json.loads(piece) for piece in pieces(text, limit)]
    assert "".join(found) == text
    assert all(tokens_of(piece) <= limit for piece in found)


def test_pieces_end_between_words() -> None:
    text = "several words " * 100
    assert all(json.loads(piece).endswith(" ") for piece in pieces(text, 20)[:-1])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("null", []),
        ("[]", []),
        ("[null, null]", []),
        ('["a", null, 1, {"b": [2]}]', ['"a"', "1", '{"b":[2]}']),
        ('"a text"', ['"a text"']),
        ("7", ["7"]),
    ],
)
def test_values_are_those_of_a_list_without_nulls(text: str, values: list[str]) -> None:
    assert values_of(text, 100) == values


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.integers(8, 60))
def test_every_value_counts_once(numbers: list[int], limit: int) -> None:
    model = Adding()
    assert reduce_lists([json.dumps(numbers)], limit, model) == [str(sum(numbers))]


def test_lists_of_all_lengths_share_their_rounds() -> None:
    model = Adding()
    lists = [json.dumps(list(range(n))) for n in (0, 1, 5, 1_000, 1_000, 3_000)]
    found = reduce_lists(lists, 100, model)
    assert found == [None, "0", "10", "499500", "499500", "4498500"]
    # Whole lists, parts, and a logarithmic number of levels of merges above them.
    assert model.rounds <= 2 + math.ceil(math.log2(3_000))


def test_short_lists_take_one_call() -> None:
    model = Adding()
    reduce_lists([json.dumps(list(range(20)))], 1_000, model)
    assert list(model.asked) == [(Step.WHOLE, json.dumps(list(range(20)), separators=(",", ":")))]


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
@pytest.mark.parametrize("place", [0, 137, 2_500, 4_999])
def test_a_change_asks_again_along_its_path(change: str, place: int) -> None:
    numbers = [(7_919 * n) % 100_003 for n in range(5_000)]
    before, after = Adding(), Adding()
    reduce_lists([json.dumps(numbers)], 100, before)
    new = [*numbers]
    if change == "removed":
        del new[place]
    else:
        new[place : place + (change == "changed")] = [424_242]
    assert reduce_lists([json.dumps(new)], 100, after) == [str(sum(new))]
    levels = before.rounds
    assert len(before.asked) > 100
    # The path, and per level the neighbour that begins elsewhere now.
    assert len(after.asked - before.asked) <= 4 * levels


def test_a_failed_part_fails_its_list_alone() -> None:
    error = InvalidAnswer("no number")
    adding = Adding()

    def ask(step: Step, texts: Sequence[str]) -> list[Answered]:
        answers = adding(step, texts)
        return [error if "13" in json.loads(t) else a for t, a in zip(texts, answers, strict=True)]

    good, bad = [str(n) for n in range(14, 300)], [str(n) for n in range(300)]
    found = reduce_lists([json.dumps(good), json.dumps(bad)], 50, ask)
    assert found == [str(sum(map(int, good))), error]
    assert isinstance(found[1], CallError)
    merged = sum(step is Step.MERGE for step, _ in adding.asked)
    assert merged <= merges_expected(len(good), 50, 2) + 5  # none of the failed list


def test_a_part_without_an_answer_leaves_its_list_null() -> None:
    def ask(step: Step, texts: Sequence[str]) -> list[Answered]:
        return [None for _ in texts]

    assert reduce_lists([json.dumps(list(range(500)))], 50, ask) == [None]


def test_the_room_is_that_of_the_window() -> None:
    call = call_of(max_words=100, chunk_tokens=2_000)
    reduction = call.declaration.reduction
    assert reduction is not None
    assert room(call, reduction, None) == 2_000
    assert room(call, reduction, 100_000) == 2_000
    small = room(call, reduction, 2_048)
    assert 500 < small < 2_048 - call.max_tokens
    assert room(call, reduction, 100) == 64


def test_steps_are_questions_of_their_own_in_one_stage() -> None:
    call = call_of(default_value="none", on_error="null")
    steps = [step_call(call, step) for step in Step]
    assert steps[0].identity == call.identity
    assert len({step.identity for step in steps}) == 3
    assert len({step.declaration.instruction for step in steps}) == 3
    assert {step.spec for step in steps} == {call.spec}
    assert {step.default for step in steps} == {None}
