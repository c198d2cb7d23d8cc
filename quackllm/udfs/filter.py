"""LLM_FILTER(prompt, ...): true or false."""

from __future__ import annotations

from quackllm.udfs.answers import YES_NO, choice_tokens, read_yes_no
from quackllm.udfs.base import Binding, Choice, Declaration, Function, Kind, Parameter
from quackllm.udfs.prompt import ask


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for a wrong template."""
    return Declaration(
        instruction=ask(
            "Answer this question about the data with yes or no.",
            binding.constants.get("prompt"),
            binding.fields,
            "Question",
        ),
        returns="BOOLEAN",
        answer=Choice(YES_NO),
        parse=read_yes_no,
        max_tokens=choice_tokens(YES_NO),
    )


FILTER = Function(
    name="llm_filter",
    aliases=("ai_filter",),
    summary="whether the prompt holds for the row",
    parameters=(
        Parameter("prompt", Kind.PROMPT, "a question or a statement; {name} refers to an argument"),
        Parameter("arguments", Kind.VALUES, "the data of the row"),
    ),
    declare=declare,
    example="SELECT title FROM films WHERE LLM_FILTER('Is it suitable for children?', synopsis)",
)
