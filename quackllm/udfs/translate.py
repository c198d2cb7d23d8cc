"""LLM_TRANSLATE(input, language): the text in another language."""

from __future__ import annotations

from quackllm.udfs.answers import read_text
from quackllm.udfs.base import Binding, Declaration, FreeText, Function, Kind, Parameter
from quackllm.udfs.prompt import DATA_NOTE

_TOKENS = 1024


def declare(binding: Binding) -> Declaration:
    """Return the declaration."""
    language = binding.constants.get("language")
    into = 'the language named by "language" in the data' if language is None else language
    return Declaration(
        instruction=(
            f"Translate the values of the data into {into}.\n{DATA_NOTE}\n"
            "Reply with the translation only."
        ),
        returns="VARCHAR",
        answer=FreeText(),
        parse=read_text,
        max_tokens=_TOKENS,
    )


TRANSLATE = Function(
    name="llm_translate",
    aliases=("ai_translate",),
    summary="the text in another language",
    parameters=(
        Parameter("input", Kind.VALUE, "the text to translate"),
        Parameter("language", Kind.PROMPT, "the language to translate into"),
    ),
    declare=declare,
    version=2,
    example="SELECT LLM_TRANSLATE(body, 'English') FROM tickets",
)
