"""Functions are found by name, alias and entry point, and a call is bound or refused clearly."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.errors import BindError, QuackLLMError
from quackllm.udfs.answers import read_choice
from quackllm.udfs.base import (
    Binding,
    Choice,
    Declaration,
    Function,
    Kind,
    Option,
    Parameter,
)
from quackllm.udfs.options import whole
from quackllm.udfs.registry import Functions, options_of

BUILT_IN = {
    "llm": {"llm_complete", "ai_complete"},
    "llm_filter": {"ai_filter"},
    "llm_classify": {"ai_classify"},
    "llm_extract": {"ai_extract"},
    "llm_score": {"ai_score"},
    "llm_summarize": {"ai_summarize"},
    "llm_translate": {"ai_translate"},
    "llm_sentiment": {"ai_sentiment"},
}


@pytest.fixture(scope="module")
def functions() -> Functions:
    return Functions.load()


def test_the_built_in_functions_come_through_the_entry_points(functions: Functions) -> None:
    found = {each.name: set(each.aliases) for each in functions}
    assert {name: found.get(name) for name in BUILT_IN} == BUILT_IN


def test_names_and_aliases_are_found_in_any_case(functions: Functions) -> None:
    for name, aliases in BUILT_IN.items():
        for each in (name, *aliases):
            assert functions.get(each.upper()) is functions.get(each) is functions.get(name)
    assert functions.get("lower") is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [("LLM_FLITER", "LLM_FILTER"), ("ai_clasify", "AI_CLASSIFY"), ("llmfilter", "LLM_FILTER"),
     ("llm_filter", None), ("filter", None), ("llm_zzz", None)],
)  # fmt: skip
def test_close_names_are_suggested(functions: Functions, written: str, meant: str | None) -> None:
    assert functions.suggest(written) == meant


def test_two_functions_cannot_share_a_name(functions: Functions) -> None:
    shout = a_function("llm_shout", aliases=("LLM_Filter",))
    with pytest.raises(QuackLLMError, match="two functions are called LLM_FILTER"):
        Functions([*functions, shout])


def a_function(name: str, **changes: Any) -> Function:
    """A whole new function: what a file of another package would hold."""

    def declare(binding: Binding) -> Declaration:
        grades = tuple(str(at) for at in range(1, binding.options["grades"] + 1))
        return Declaration(
            instruction="Grade the data.",
            returns="VARCHAR",
            answer=Choice(grades),
            parse=lambda text: read_choice(text, grades),
            max_tokens=4,
        )

    return Function(
        **{
            "name": name,
            "summary": "a grade",
            "parameters": (Parameter("input", Kind.VALUE, "what to grade"),),
            "options": (Option("grades", "how many grades there are", whole(2, 10), 5),),
            "declare": declare,
            "example": f"SELECT {name}(essay) FROM essays",
            **changes,
        }
    )


def test_a_new_function_is_one_declaration(functions: Functions) -> None:
    extended = Functions([*functions, a_function("llm_grade")])
    call = extended.bind("LLM_GRADE", {}, {"grades": 3}, ["essay"])
    assert call.declaration.answer == Choice(("1", "2", "3"))
    assert call.declaration.parse("2.") == "2"
    assert call.fields == ("essay",)
    assert functions.get("llm_grade") is None
    with pytest.raises(BindError, match="LLM_GRADE: option grades must be a whole number from 2"):
        extended.bind("LLM_GRADE", {}, {"grades": 1}, ["essay"])


def test_a_call_bound_from_its_spec_is_the_same_call(functions: Functions) -> None:
    for name, constants, options, fields in CALLS:
        call = functions.bind(name, constants, options, fields)
        again = functions.from_spec(call.spec)
        assert again == call
        assert again.declaration.instruction == call.declaration.instruction
        assert again.declaration.answer == call.declaration.answer


CALLS: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("llm", {"prompt": "Write a haiku"}, {}, []),
    ("llm", {"prompt": "{a}?"}, {"return_type": "DATE[]", "model": "fast"}, ["b", "a"]),
    ("ai_filter", {"prompt": "ok?"}, {"on_error": "ERROR", "cache": False}, ["a"]),
    ("llm_filter", {}, {}, ["prompt", "a"]),
    ("llm_classify", {"labels": {"z": "last", "a": None}}, {"output_mode": "multi"}, ["x"]),
    ("llm_classify", {"labels": ["b", "a"]},
     {"examples": [{"input": "q", "answer": "a"}]}, ["x"]),
    ("llm_extract", {"fields": {"z": "INT", "a": [{"n": "DOUBLE: number"}]}}, {}, ["x"]),
    ("llm_score", {"prompt": "urgent"}, {"min": Decimal("-0.5"), "max": 2}, ["x"]),
    ("llm_summarize", {}, {"max_words": 9, "max_tokens": 99, "temperature": 0.5}, ["x"]),
    ("llm_translate", {"language": "French"}, {}, ["x"]),
    ("llm_sentiment", {}, {"temperature": None}, ["x"]),
]  # fmt: skip


def test_how_an_answer_is_handled_is_not_part_of_what_is_asked(functions: Functions) -> None:
    def identity(options: dict[str, Any], fields: list[str] | None = None) -> str:
        return functions.bind(
            "llm_filter", {"prompt": "ok?"}, options, fields or ["a", "b"]
        ).identity

    plain = identity({})
    assert identity({"on_error": "error", "cache": True, "model": "fast"}) == plain
    assert identity({"MAX_TOKENS": 21, "temperature": 0}) == plain
    assert identity({}, ["b", "a"]) == plain
    assert identity({"temperature": 1}) != plain
    assert identity({"max_tokens": 9}) != plain
    assert identity({}, ["a", "c"]) != plain


def test_spellings_of_one_call_have_one_identity(functions: Functions) -> None:
    one = functions.bind("LLM", {"prompt": "p"}, {}, ["x"])
    other = functions.bind("ai_complete", {"prompt": "p"}, {"temperature": Decimal(0)}, ["x"])
    assert one == other
    short = functions.bind("llm", {"prompt": "p"}, {"return_type": "int"}, ["x"])
    long = functions.bind("llm", {"prompt": "p"}, {"return_type": " INTEGER"}, ["x"])
    assert short == long


def test_the_order_of_labels_is_part_of_what_is_asked(functions: Functions) -> None:
    one = functions.bind("llm_classify", {"labels": {"a": "x", "b": "y"}}, {}, ["t"])
    other = functions.bind("llm_classify", {"labels": {"b": "y", "a": "x"}}, {}, ["t"])
    assert one.identity != other.identity


def test_shared_options_reach_the_call(functions: Functions) -> None:
    call = functions.bind(
        "llm",
        {"prompt": "p"},
        {"model": "m", "temperature": 0.7, "max_tokens": 5, "on_error": "null", "cache": False},
        ["x"],
    )
    assert (call.model, call.temperature, call.max_tokens) == ("m", 0.7, 5)
    assert (call.on_error, call.cache) == ("null", False)
    default = functions.bind("llm", {"prompt": "p"}, {}, ["x"])
    assert (default.model, default.temperature, default.on_error, default.cache) == (
        None, 0.0, None, None,
    )  # fmt: skip
    assert default.max_tokens == default.declaration.max_tokens


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], list[str], str]] = [
    ("llm_fliter", {}, {}, [], "unknown function LLM_FLITER, did you mean LLM_FILTER?"),
    ("ai_filter", {"prompt": "p"}, {}, [],
     "AI_FILTER: data arguments are missing (arguments: the data of the row): "
     "LLM_FILTER(prompt, arguments, ...). Example: SELECT title FROM films WHERE "
     "LLM_FILTER('Is it suitable for children?', synopsis)"),
    ("llm_filter", {"prompt": "Is {review} kind? {{not}} {a: 1} {review}"}, {}, [],
     "LLM_FILTER: data arguments are missing (arguments: the data of the row): "
     "LLM_FILTER(prompt, arguments, ...). The prompt names {review}, but brings no data: add "
     "review behind it"),
    ("llm_filter", {"prompt": "Is {a} like {b c}?"}, {}, [],
     "LLM_FILTER: data arguments are missing (arguments: the data of the row): "
     "LLM_FILTER(prompt, arguments, ...). The prompt names {a}, {b c}, but brings no data: "
     "add a, b c behind it"),
    ("llm_filter", {}, {}, ["prompt"],
     "LLM_FILTER: data arguments are missing (arguments: the data of the row): "
     "LLM_FILTER(prompt, arguments, ...). The prompt differs from row to row: write the question "
     "as one text, and the columns that it is about behind it"),
    ("llm_filter", {}, {}, ["a"],
     "LLM_FILTER: prompt is missing: LLM_FILTER(prompt, arguments, ...)"),
    ("llm_filter", {"prompt": None}, {}, ["a"],
     "LLM_FILTER: prompt must be a text, not NULL"),
    ("llm_filter", {"prompt": " "}, {}, ["a"],
     "LLM_FILTER: prompt must be a text that is not empty, not ' '"),
    ("llm_filter", {"prompt": 5}, {}, ["a"], "LLM_FILTER: prompt must be a text, not 5"),
    ("llm_filter", {"prompt": "p", "x": 1}, {}, ["a"],
     "LLM_FILTER: no parameter x: LLM_FILTER(prompt, arguments, ...)"),
    ("llm_filter", {"prompt": "p"}, {}, ["a", "b", "a"],
     "LLM_FILTER: two arguments are called a; name one by a struct literal: {'another name': a}"),
    ("llm_classify", {}, {}, ["a", "b"],
     "LLM_CLASSIFY: labels is missing or not a constant: LLM_CLASSIFY(input, labels)"),
    ("llm_sentiment", {}, {}, [],
     "LLM_SENTIMENT: data arguments are missing (input: the text to judge): LLM_SENTIMENT(input). "
     "Example: SELECT LLM_SENTIMENT(review), count(*) FROM reviews GROUP BY 1"),
    ("llm_filter", {"prompt": "p"}, {"temprature": 1}, ["a"],
     "LLM_FILTER: unknown option temprature, did you mean temperature? "
     "Options: cache, candidates, default_value, max_tokens, model, on_budget, on_error, pin, "
     "seed, strategy, temperature"),
    ("llm_filter", {"prompt": "p"}, {"model": "a", "MODEL": "b"}, ["a"],
     "LLM_FILTER: option model is given twice"),
    ("llm_filter", {"prompt": "p"}, {"model": 5}, ["a"],
     "LLM_FILTER: option model must be a text, not 5"),
    ("llm_filter", {"prompt": "p"}, {"temperature": 3}, ["a"],
     "LLM_FILTER: option temperature must be a number from 0 to 2, not 3"),
    ("llm_filter", {"prompt": "p"}, {"temperature": True}, ["a"],
     "LLM_FILTER: option temperature must be a number from 0 to 2, not true"),
    ("llm_filter", {"prompt": "p"}, {"max_tokens": 0}, ["a"],
     "LLM_FILTER: option max_tokens must be a whole number from 1 to 1000000, not 0"),
    ("llm_filter", {"prompt": "p"}, {"max_tokens": Decimal("1.5")}, ["a"],
     "LLM_FILTER: option max_tokens must be a whole number from 1 to 1000000, not 1.5"),
    ("llm_filter", {"prompt": "p"}, {"on_error": "skip"}, ["a"],
     "LLM_FILTER: option on_error must be 'null' or 'error', not 'skip'"),
    ("llm_filter", {"prompt": "p"}, {"cache": "yes"}, ["a"],
     "LLM_FILTER: option cache must be true or false, not 'yes'"),
    ("llm_filter", {"prompt": "p"}, {"temperature": float("nan")}, ["a"],
     "LLM_FILTER: temperature must be a finite number, not nan"),
    ("llm_filter", {"prompt": "p"}, {"model": b"x"}, ["a"],
     "LLM_FILTER: model cannot be a bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "constants", "options", "fields", "message"), REFUSED)
def test_a_wrong_call_says_what_would_be_right(
    functions: Functions,
    name: str,
    constants: dict[str, Any],
    options: dict[str, Any],
    fields: list[str],
    message: str,
) -> None:
    with pytest.raises(BindError) as caught:
        functions.bind(name, constants, options, fields)
    assert str(caught.value) == f"Binder Error: {message}"
    assert isinstance(caught.value, duckdb.BinderException)


def test_a_spec_of_another_version_is_refused() -> None:
    spec = Functions([a_function("llm_grade")]).bind("llm_grade", {}, {}, ["x"]).spec
    newer = Functions([a_function("llm_grade", version=2)])
    with pytest.raises(BindError, match="version 1 of LLM_GRADE, this is version 2"):
        newer.from_spec(spec)


def test_dates_in_constants_become_text() -> None:
    """Constants arrive as what DuckDB folds them to; a spec holds JSON only."""
    with pytest.raises(BindError, match=r"labels must be a list of texts.*not '2024-01-31'"):
        Functions.load().bind("llm_classify", {"labels": datetime.date(2024, 1, 31)}, {}, ["x"])


folded = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals(allow_nan=False)
    | st.text()
    | st.dates() | st.times() | st.datetimes() | st.uuids() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=5,
)  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(sorted(BUILT_IN)), folded, st.text(), folded)
def test_any_constant_is_bound_or_a_bind_error(
    functions: Functions, name: str, value: Any, option: str, set_to: Any
) -> None:
    function = functions.get(name)
    assert function is not None
    fixed = {p.name: value for p in function.parameters if p.kind in (Kind.CONSTANT, Kind.PROMPT)}
    for options in ({}, {option: set_to}, *({o.name: set_to} for o in options_of(function))):
        try:
            call = functions.bind(name, fixed, options, ["x"])
        except BindError:
            continue
        assert functions.from_spec(call.spec) == call
