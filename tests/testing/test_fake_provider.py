"""The public fake: answers that depend on the question alone, and faults on demand."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.base import Provider, Reply, Request, Usage
from quackllm.errors import CallTimedOut, InvalidAnswer, ServerFailed, ServerUnreachable
from quackllm.testing import NONSENSE, FakeProvider, Fault, deterministic_answer
from quackllm.testing.documents import document
from quackllm.udfs.base import AnswerForm, Choice, FreeText, JsonAnswer

LABELS = Choice(("red", "green", "blue"))
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 5},
        "price": {"type": ["number", "null"], "minimum": 1, "maximum": 2},
        "count": {"type": "integer", "exclusiveMinimum": 0, "maximum": 3},
        "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "tags": {
            "type": "array",
            "items": {"enum": ["a", "b"]},
            "uniqueItems": True,
            "maxItems": 2,
        },
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "minItems": 1},
        "kind": {"const": "film"},
    },
    "$defs": {"part": {"type": "object", "properties": {"ok": {"type": "boolean"}}}},
}


def ask(form: AnswerForm = LABELS, fields: str = '{"a": 1, "b": "x"}') -> Request:
    return Request("Which one?", fields, form, 0.0, 8)


def answer(provider: FakeProvider, request: Request) -> Reply:
    return asyncio.run(provider.complete(request))


def test_it_is_a_provider() -> None:
    provider: Provider = FakeProvider()
    assert isinstance(provider, Provider)
    assert provider.endpoint == provider.model == "fake"


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()), st.randoms())
def test_the_order_of_the_fields_does_not_change_the_answer(
    row: dict[str, Any], rng: random.Random
) -> None:
    shuffled = list(row.items())
    rng.shuffle(shuffled)
    answers = {
        deterministic_answer(ask(form, json.dumps(fields, ensure_ascii=ascii_only)))
        for fields in (row, dict(shuffled))
        for ascii_only in (True, False)
        for form in (LABELS,)
    }
    assert len(answers) == 1


def test_answers_are_the_same_in_every_process_and_release() -> None:
    assert [deterministic_answer(ask(fields=f'{{"n": {n}}}')) for n in range(6)] == [
        "red", "green", "blue", "green", "green", "green",
    ]  # fmt: skip
    assert deterministic_answer(ask(FreeText())) == "answer b90e4b70e3688b83"


def test_another_seed_instruction_or_row_gives_other_answers() -> None:
    rows = [ask(FreeText(), f'{{"n": {n}}}') for n in range(50)]
    other = [Request("What?", row.fields, row.answer, 0.0, 8) for row in rows]
    texts = [deterministic_answer(row, seed) for row in rows + other for seed in (0, 1)]
    assert len(set(texts)) == len(texts)


@given(st.integers(0, 10_000))
def test_documents_are_valid_for_their_schema(seed: int) -> None:
    drawn = document(SCHEMA, random.Random(seed))
    assert set(drawn) == set(SCHEMA["properties"])
    assert 3 <= len(drawn["name"]) <= 5
    assert drawn["price"] is None or 1 <= drawn["price"] <= 2
    assert drawn["count"] in (1, 2, 3)
    assert drawn["day"] is None or len(drawn["day"]) == 10
    assert sorted(set(drawn["tags"])) == sorted(drawn["tags"])
    assert set(drawn["tags"]) <= {"a", "b"}
    assert drawn["parts"]
    assert all(isinstance(part["ok"], bool) for part in drawn["parts"])
    assert drawn["kind"] == "film"


def test_a_schema_that_cannot_be_kept_is_an_error_and_no_wrong_document() -> None:
    with pytest.raises(ValueError, match="pattern"):
        document({"type": "string", "pattern": "^a+$"}, random.Random(0))
    with pytest.raises(ValueError, match="'tuple'"):
        document({"type": "tuple"}, random.Random(0))


def test_a_function_answers_in_place_of_the_hash() -> None:
    whole = Reply("blue", Usage(7, 1, 3), truncated=True)
    assert answer(FakeProvider(answer=lambda request: request.fields), ask()).text == ask().fields
    assert answer(FakeProvider(answer=lambda _: whole), ask()) is whole


def test_calls_are_counted_and_the_latest_requests_kept() -> None:
    provider = FakeProvider(keep=2)
    rows = [ask(fields=f'{{"n": {n}}}') for n in range(5)]
    for row in rows:
        answer(provider, row)
    asyncio.run(provider.aclose())
    assert provider.calls == 5
    assert list(provider.requests) == rows[-2:]
    assert provider.closed


# Faults


def failures(provider: FakeProvider, count: int = 200) -> list[int]:
    found = []
    for number in range(count):
        try:
            answer(provider, ask(fields=f'{{"n": {number}}}'))
        except (ServerFailed, CallTimedOut, ServerUnreachable):
            found.append(number)
    return found


def test_a_rate_hits_the_same_rows_in_every_order_and_other_rows_with_another_seed() -> None:
    faults = [Fault(ServerFailed, rate=0.2)]
    first = failures(FakeProvider(faults=faults))
    backwards = FakeProvider(faults=faults)
    for number in reversed(range(200)):
        request = ask(fields=f'{{"n": {number}}}')
        if number in first:
            with pytest.raises(ServerFailed):
                answer(backwards, request)
        else:
            answer(backwards, request)
    assert 20 <= len(first) <= 60
    assert failures(FakeProvider(faults=faults, seed=1)) != first


def test_a_rule_names_rows_or_calls() -> None:
    by_text = FakeProvider(faults=[Fault(CallTimedOut, containing='"n": 3}')])
    assert failures(by_text, 10) == [3]
    by_turn = FakeProvider(faults=[Fault(ServerUnreachable, after=4, times=2)])
    assert failures(by_turn, 10) == [4, 5]


@pytest.mark.parametrize("form", [LABELS, JsonAnswer(json.dumps(SCHEMA))], ids=["choice", "json"])
def test_an_invalid_answer_is_for_the_parser_to_refuse(form: AnswerForm) -> None:
    provider = FakeProvider(faults=[Fault(InvalidAnswer)])
    assert answer(provider, ask(form)).text == NONSENSE


def test_free_text_cannot_be_invalid_so_the_fault_is_raised() -> None:
    with pytest.raises(InvalidAnswer, match="injected"):
        answer(FakeProvider(faults=[Fault(InvalidAnswer)]), ask(FreeText()))


def test_latency_is_waited_for_and_calls_overlap() -> None:
    provider = FakeProvider(latency=0.01)

    async def three() -> None:
        await asyncio.gather(*(provider.complete(ask()) for _ in range(3)))

    asyncio.run(three())
    assert provider.most_in_flight == 3
    assert provider.in_flight == 0
