"""Parsers take off what leaves no doubt about the answer, and guess nothing."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.errors import InvalidAnswer
from quackllm.udfs.answers import (
    json_answer,
    read_choice,
    read_json,
    read_labels,
    read_text,
    read_true_false,
    read_typed,
    write_json,
)
from quackllm.udfs.type_parser import parse_type

LABELS = ("Sports", "World news", "U.S.", 'it\'s "quoted"', "R&D", "\U0001f986")


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(
    "wrapping", ["{}", " {}\n", '"{}"', "'{}'", "`{}`", "{}.", '"{}".', '"{}."', "\u201c{}\u201d"]
)
def test_a_wrapped_label_is_that_label(label: str, wrapping: str) -> None:
    assert read_choice(wrapping.format(label), LABELS) == label


@pytest.mark.parametrize(
    "text",
    ["", " ", "Sport", "Sports or World news", "The answer is Sports", "Sports!", "Sports..",
     "U.S. Sports", "null", '{"answer": "Sports"}', "Sports\nSports", "S"],
)  # fmt: skip
def test_what_is_not_exactly_a_label_is_refused(text: str) -> None:
    with pytest.raises(InvalidAnswer, match="is not one of 'Sports', 'World news'"):
        read_choice(text, LABELS)


def test_case_is_ignored_unless_it_tells_labels_apart() -> None:
    assert read_choice("sPORTS", LABELS) == "Sports"
    assert read_choice("AB", ("ab", "AB")) == "AB"
    with pytest.raises(InvalidAnswer):
        read_choice("Ab", ("ab", "AB"))


def test_a_refusal_names_twenty_labels_at_most() -> None:
    with pytest.raises(InvalidAnswer, match=r"'l19' and 80 more$"):
        read_choice("x", tuple(f"l{at}" for at in range(100)))


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_every_label_reads_as_itself(labels: list[str]) -> None:
    for label in labels:
        assert read_choice(label, tuple(labels)) == label


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "true"),
        ("No", "false"),
        (" TRUE\n", "true"),
        ('"false".', "false"),
        ("no.", "false"),
    ],
)
def test_true_false_yes_and_no_are_read(text: str, value: str) -> None:
    assert read_true_false(text) == value


@pytest.mark.parametrize(
    "text", ["", "y", "1", "null", "yes and no", "Yes, it is", "not sure", "unknown"]
)
def test_anything_but_true_and_false_is_refused(text: str) -> None:
    with pytest.raises(InvalidAnswer, match="is not true or false"):
        read_true_false(text)


def test_free_text_is_trimmed_and_not_empty() -> None:
    assert read_text("\n A haiku.\nTwo lines. ") == "A haiku.\nTwo lines."
    for text in ("", " \n"):
        with pytest.raises(InvalidAnswer, match="the answer is empty"):
            read_text(text)
    with pytest.raises(InvalidAnswer, match="lone surrogate"):
        read_text("a\udc80")


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": 5}',
        ' {"answer":5}\n',
        '```json\n{"answer": 5}\n```',
        '```\n{"answer": 5}```',
        "5",
        '"5"',
    ],
)
def test_a_typed_answer_is_read_in_each_plain_form(text: str) -> None:
    assert read_typed(text, parse_type("INTEGER")) == "5"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "$: '' is not a whole number"),
        ("about 5", "$: 'about 5' is not a whole number"),
        ('{"answer": 5', "not a JSON document"),
        ('{"answer": 5} {"answer": 6}', "not a JSON document"),
        ('{"answer": 5, "answer": 6}', "a key appears twice"),
        ('{"answer": NaN}', "NaN is not JSON"),
        ('{"answer": 5, "why": "x"}', 'is not an object with the one key "answer"'),
        ('{"value": 5}', 'is not an object with the one key "answer"'),
        ('{"answer": null}', "$.answer: null is not a whole number"),
        ('{"answer": "5 kg"}', "$.answer: '5 kg' is not a whole number"),
        ('{"answer": ' + "9" * 5000 + "}", "not a JSON document"),
        ('{"answer": 1e9999999999999999999}', "is not a usable number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_typed_answer_that_is_unclear_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        read_typed(text, parse_type("INTEGER"))
    assert problem in str(caught.value)


def test_null_is_an_answer_only_where_it_is_declared() -> None:
    integer = parse_type("INTEGER")
    assert read_typed('{"answer": null}', integer, null=True) is None
    with pytest.raises(InvalidAnswer):
        read_typed('{"answer": null}', integer)


def test_plain_text_is_an_answer_for_plain_types_only() -> None:
    assert read_typed("2024-01-31", parse_type("DATE")) == "2024-01-31"
    assert read_typed('"High".', parse_type("ENUM('High','Low')")) == "High"
    for nested in ("DATE[]", "STRUCT(a DATE)", "JSON"):
        with pytest.raises(InvalidAnswer, match="not a JSON document"):
            read_typed("2024-01-31", parse_type(nested))


def test_fields_that_were_not_asked_for_are_dropped_and_missing_ones_refused() -> None:
    type_ = parse_type("STRUCT(a INTEGER, b VARCHAR)")
    assert read_typed('{"b": null, "c": [1], "a": 1}', type_) == '{"a":1,"b":null}'
    with pytest.raises(InvalidAnswer, match="field 'b' is missing"):
        read_typed('{"a": 1}', type_)


def test_labels_come_back_once_and_in_declared_order() -> None:
    assert read_labels('{"answer": ["c", "a", "c"]}', ("a", "b", "c")) == '["a","c"]'
    assert read_labels('["B"]', ("a", "b", "c")) == '["b"]'
    assert read_labels('{"answer": []}', ("a", "b")) == "[]"
    with pytest.raises(InvalidAnswer, match=r"\$\.answer\[1\]: 'z' is not one of"):
        read_labels('{"answer": ["a", "z"]}', ("a", "b"))


def test_numbers_keep_the_digits_that_the_model_wrote() -> None:
    read = read_json('{"a": 0.1000000000000000000001, "b": [123456789012345678901234567890]}')
    assert read["a"] == Decimal("0.1000000000000000000001")
    assert write_json(read) == '{"a":0.1000000000000000000001,"b":[123456789012345678901234567890]}'


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_what_is_written_reads_back(value: object) -> None:
    assert json.loads(write_json(value)) == value
    assert read_json(write_json(value)) == value


def test_the_root_of_every_schema_is_an_object() -> None:
    """OpenAI's strict mode takes nothing else."""
    for text in ("INTEGER", "DATE[]", "JSON", "MAP(VARCHAR, INTEGER)", "STRUCT(a INTEGER)"):
        schema = json_answer(parse_type(text), null=True).as_dict()
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
