"""Numbers of a range as patterns: what the decoding of a score is held to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.constraints import ServerKind, constraint
from quackllm.engine.providers.numbers import number_grammar, number_regex
from quackllm.udfs.base import Number

BOUNDS = st.tuples(st.integers(-600, 600), st.integers(-600, 600)).filter(
    lambda two: two[0] < two[1]
)
WHOLE = BOUNDS.map(lambda two: Number(float(two[0]), float(two[1])))
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def as_regex(grammar: str) -> str:
    """Turn a grammar of numbers into a regular expression; their operators are the same."""
    body = grammar.removeprefix("root ::= ").replace('"."', r"\.").replace('"', "")
    return body.replace(" ", "")


@given(WHOLE, st.integers(-60_000, 60_000), st.integers(0, 2))
def test_between_whole_numbers_the_pattern_holds_exactly_the_range(
    form: Number, hundredths: int, places: int
) -> None:
    text = f"{hundredths / 100:.{places}f}"
    if text.startswith("-") and float(text) == 0:
        return  # is 0, and need not be written so
    allowed = 2 if form.high - form.low < 10 else 1 if form.high - form.low < 100 else 0
    number = float(text)
    # A bound that a fraction would move out of the range is written without one.
    ends = (form.low if form.low < 0 else None, form.high if form.high >= 0 else None)
    written = places <= (0 if number in ends else allowed)
    fits = form.low <= number <= form.high and written
    assert bool(re.fullmatch(number_regex(form), text)) == fits


@given(FINITE, FINITE)
def test_bounds_of_any_size_have_a_pattern_and_a_grammar_of_the_same_texts(
    one: float, other: float
) -> None:
    if one == other:
        return
    form = Number(min(one, other), max(one, other))
    assert as_regex(number_grammar(form)) == number_regex(form)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ["0", "1", "0.5", "0.85", "1.0", "-0", "1.1", "0.855", "01", ".5"]),
        (-1, 1, ["-1", "-0.5", "0.25", "1.00", "-1.5", "1.5", "+1"]),
        (0.5, 2.5, ["0.5", "2.5", "1", "3", "-1"]),
        (0, 5000, ["0", "4999", "12345", "-1", "1.5"]),
    ],
)
def test_the_texts_of_some_ranges(low: float, high: float, texts: list[str]) -> None:
    regex = number_regex(Number(low, high))
    assert [text for text in texts if re.fullmatch(regex, text)] == {
        (0, 1): ["0", "1", "0.5", "0.85"],
        (-1, 1): ["-1", "-0.5", "0.25"],
        (0.5, 2.5): ["0.5", "2.5", "1"],
        (0, 5000): ["0", "4999"],
    }[low, high]


@pytest.mark.parametrize("kind", [ServerKind.OPENAI, ServerKind.OLLAMA, ServerKind.OTHER])
def test_a_server_of_schemas_wraps_the_number_and_it_comes_back_bare(kind: ServerKind) -> None:
    form = Number(0.0, 1.0)
    limits = constraint(form, kind)
    schema = limits.body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"] == {"type": "number", "minimum": 0.0, "maximum": 1.0}
    assert limits.unwrap('{"answer": 0.5}', form) == "0.5"


def test_vllm_and_llama_cpp_are_held_to_the_pattern() -> None:
    form = Number(0.0, 1.0)
    vllm = constraint(form, ServerKind.VLLM).body
    assert vllm == {"structured_outputs": {"regex": number_regex(form)}}
    assert constraint(form, ServerKind.LLAMA_CPP).body == {"grammar": number_grammar(form)}
