"""The key of an answer: whatever determines it is in, the order in a prompt is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.cache import Question, question_of
from quackllm.engine.cache.question import same_place
from quackllm.engine.providers.base import Capabilities
from quackllm.engine.run import answer_keys
from quackllm.testing import FakeProvider
from quackllm.udfs.registry import Functions

QUESTION = Question("identity", "http://host:8000/v1", "model", "revision")


def test_whatever_determines_an_answer_changes_the_digest() -> None:
    others = [
        replace(QUESTION, identity="another"),
        replace(QUESTION, endpoint="http://host:8001/v1"),
        replace(QUESTION, model="another"),
        replace(QUESTION, revision="another"),
        replace(QUESTION, revision=None),
        replace(QUESTION, weights="sha256:1"),
        replace(QUESTION, weights="sha256:2"),
    ]
    digests = {question.digest for question in (QUESTION, *others)}
    assert len(digests) == len(others) + 1
    assert all(len(digest) == 16 for digest in digests)


def test_texts_cannot_be_moved_from_one_part_to_the_next() -> None:
    assert Question("a", "b", "c").digest != Question("a", "bc", "").digest
    assert Question("i", "weights", "x").digest != Question("i", "", "", weights="x").digest


def test_known_weights_are_the_same_model_wherever_it_runs() -> None:
    here = replace(QUESTION, weights="sha256:1")
    there = Question("identity", "embedded", "/other/path.gguf", weights="sha256:1")
    assert here.digest == there.digest


@pytest.mark.parametrize(
    "written",
    [
        "http://localhost:8000/v1",
        "http://LOCALHOST:8000/v1/",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://user:password@localhost:8000/v1",
    ],
)
def test_one_place_is_written_in_many_ways(written: str) -> None:
    assert same_place(written) == "http://localhost:8000/v1"


def test_other_places_stay_other_places() -> None:
    places = ["http://a/v1", "https://a/v1", "http://b/v1", "http://a:81/v1", "http://a/v2", "fake"]
    assert len({same_place(place) for place in places}) == len(places)
    assert same_place("https://a:443/v1") == same_place("https://a/v1")
    assert same_place("http://a:99999999/v1") == "http://a:99999999/v1"


@given(st.lists(st.text(), unique=True, max_size=20))
def test_each_row_has_a_key_of_its_own(texts: list[str]) -> None:
    digests = QUESTION.keys(texts)
    assert len(set(digests)) == len(texts)
    assert digests == Question("identity", "http://host:8000/v1", "model", "revision").keys(texts)
    assert not set(digests) & set(replace(QUESTION, model="m2").keys(texts))


def test_the_order_of_fields_is_no_part_of_the_key() -> None:
    functions, provider = Functions.load(), FakeProvider()
    values = {"a": '"x"', "b": "1", "c": "null"}
    keys = set()
    for names in permutations(values):
        call = functions.bind("llm", {"prompt": "p"}, {}, names)
        columns = [pa.array([values[name]]) for name in names]
        keys.add(question_of(call, provider).keys(answer_keys(call, columns, 1))[0])
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"on_error": "error"}, True),
        ({"pin": "a"}, True),
        ({"cache": True}, True),
        ({"temperature": 0.5}, False),
        ({"seed": 1}, False),
        ({"max_tokens": 7}, False),
        ({"return_type": "INTEGER"}, False),
    ],
)
def test_options_are_in_the_key_when_they_change_the_answer(
    options: dict[str, object], same: bool
) -> None:
    functions, provider = Functions.load(), FakeProvider()
    plain = question_of(functions.bind("llm", {"prompt": "p"}, {}, ["a"]), provider)
    other = question_of(functions.bind("llm", {"prompt": "p"}, options, ["a"]), provider)
    assert (plain.digest == other.digest) is same


def test_what_the_provider_says_of_its_model_is_in_the_question() -> None:
    call = Functions.load().bind("llm", {"prompt": "p"}, {}, ["a"])
    known = FakeProvider(capabilities=Capabilities(weights="w", revision="r"))
    question = question_of(call, known)
    assert (question.weights, question.revision) == ("w", "r")
    assert (question.function, question.version) == ("llm", call.version)
