"""LLM_SUMMARIZE(input): a short summary."""

from __future__ import annotations

from quackllm.udfs.answers import read_text
from quackllm.udfs.base import Binding, Declaration, FreeText, Function, Kind, Option, Parameter
from quackllm.udfs.options import whole
from quackllm.udfs.prompt import DATA_NOTE

_TOKENS_PER_WORD = 3


def declare(binding: Binding) -> Declaration:
    """Return the declaration."""
    words = binding.options["max_words"]
    return Declaration(
        instruction=(
            f"Summarize the data in at most {words} words.\n{DATA_NOTE}\n"
            "Reply with the summary only."
        ),
        returns="VARCHAR",
        answer=FreeText(),
        parse=read_text,
        max_tokens=32 + _TOKENS_PER_WORD * words,
    )


SUMMARIZE = Function(
    name="llm_summarize",
    aliases=("ai_summarize",),
    summary="a summary of the data",
    parameters=(Parameter("input", Kind.VALUE, "the data to summarize"),),
    options=(
        Option("max_words", "words that the model is asked to keep to", whole(1, 10_000), 60),
    ),
    declare=declare,
    version=2,
    example="SELECT LLM_SUMMARIZE(body, max_words := 20) FROM articles",
)
