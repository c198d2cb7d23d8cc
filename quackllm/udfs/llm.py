"""LLM(prompt, ...): whatever the prompt asks, as text or as a value of a given type."""

from __future__ import annotations

from functools import partial
from typing import Any

from quackllm.udfs.answers import (
    TRUE_FALSE,
    choice_tokens,
    describe_answer,
    json_answer,
    read_choice,
    read_text,
    read_true_false,
    read_typed,
)
from quackllm.udfs.base import (
    Binding,
    Choice,
    Declaration,
    FreeText,
    Function,
    Kind,
    Option,
    Parameter,
)
from quackllm.udfs.nested_types import StructType
from quackllm.udfs.options import text
from quackllm.udfs.prompt import DATA_NOTE, fill_template
from quackllm.udfs.type_parser import parse_type
from quackllm.udfs.types import Boolean, Enum, SqlType, Varchar

_TEXT_TOKENS = 1024
_LIST_TOKENS = 1024
_VALUE_TOKENS = 64


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for a wrong type or template."""
    opening = _opening(binding)
    type_ = parse_type(binding.options["return_type"])
    if isinstance(type_, Varchar):
        told = f"{opening}\nReply with the answer only."
        return Declaration(told, "VARCHAR", FreeText(), read_text, _TEXT_TOKENS)
    if isinstance(type_, Boolean):
        told = f"{opening}\nReply with true or false only."
        return Declaration(
            told, "BOOLEAN", Choice(TRUE_FALSE), read_true_false, choice_tokens(TRUE_FALSE)
        )
    if isinstance(type_, Enum):
        return _one_of(opening, type_)
    return _typed(opening, type_)


def type_text(value: Any) -> str:
    """Check for a type; its aliases and spellings ask the same, so they become one text."""
    return parse_type(text(value)).to_duckdb()


def _opening(binding: Binding) -> str:
    prompt = binding.constants.get("prompt")
    if prompt is None:
        return 'Do what "prompt" in the data asks, with the rest of the data.'
    if not binding.fields:
        return fill_template(prompt, ())
    return f"{fill_template(prompt, binding.fields)}\n{DATA_NOTE}"


def _one_of(opening: str, type_: Enum) -> Declaration:
    return Declaration(
        instruction=f"{opening}\nReply with {type_.describe()}, nothing else.",
        returns=type_.to_duckdb(),
        answer=Choice(type_.values),
        parse=partial(read_choice, labels=type_.values),
        max_tokens=choice_tokens(type_.values),
    )


def _typed(opening: str, type_: SqlType) -> Declaration:
    null = not isinstance(type_, StructType)
    unknown = "null for what is not known" if type_.nested else "null when it is not known"
    return Declaration(
        instruction=f"{opening}\nReply in JSON: {describe_answer(type_)}, {unknown}.",
        returns=type_.to_duckdb(),
        answer=json_answer(type_, null=null),
        parse=partial(read_typed, type_=type_, null=null),
        max_tokens=_LIST_TOKENS if type_.nested else _VALUE_TOKENS,
    )


LLM = Function(
    name="llm",
    aliases=("llm_complete", "ai_complete"),
    summary="whatever the prompt asks of the row",
    parameters=(
        Parameter("prompt", Kind.PROMPT, "what to do; {name} refers to an argument"),
        Parameter("arguments", Kind.VALUES, "the data of the row", required=False),
    ),
    options=(Option("return_type", "the DuckDB type of the answer", type_text, "VARCHAR"),),
    declare=declare,
    version=2,
    example="SELECT LLM('Why did critics like it?', title, review) FROM reviews",
)
