"""LLM_REDUCE(list, task): one answer about all values of a list, however long it is."""

from __future__ import annotations

from quackllm.errors import BindError
from quackllm.udfs.answers import read_text
from quackllm.udfs.base import (
    Binding,
    Declaration,
    FreeText,
    Function,
    Kind,
    Option,
    Parameter,
    Reduction,
)
from quackllm.udfs.options import named_text, whole
from quackllm.udfs.prompt import DATA_NOTE, fill_template

TOKENS_PER_WORD = 3

CHUNK_TOKENS = 2_000


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for a reference to no field, or two lists."""
    if len(binding.fields) > 1:
        raise BindError(f"values must be one list, not {' and '.join(binding.fields)}")
    words = binding.options["max_words"]
    task = fill_template(named_text("task", binding.constants["task"]), binding.fields)
    end = f"{DATA_NOTE}\nReply with the answer only, in at most {words} words."
    return Declaration(
        instruction=f"Do the task for the list of values in the data.\nTask: {task}\n{end}",
        returns="VARCHAR",
        answer=FreeText(),
        parse=read_text,
        max_tokens=32 + TOKENS_PER_WORD * words,
        reduction=Reduction(
            part=(
                "The values in the data are a part of a longer list. Do the task for this part; "
                f"the answers for all parts are combined later.\nTask: {task}\n{end}"
            ),
            merge=(
                "The values in the data are answers to one task, each for a part of a list. "
                f"Combine them to one answer for the whole list.\nTask: {task}\n{end}"
            ),
            tokens=binding.options["chunk_tokens"],
        ),
    )


REDUCE = Function(
    name="llm_reduce",
    aliases=("ai_reduce",),
    summary="an answer about all values of a list, or about a long text, read in parts",
    parameters=(
        Parameter("values", Kind.VALUE, "a list, or a text"),
        Parameter("task", Kind.CONSTANT, "what to do with the values"),
    ),
    options=(
        Option("max_words", "words that the model is asked to keep to", whole(1, 10_000), 100),
        Option(
            "chunk_tokens",
            "estimated tokens of the values that one prompt shows; fewer where the model's "
            "window is smaller",
            whole(100, 1_000_000),
            CHUNK_TOKENS,
        ),
    ),
    declare=declare,
    example="SELECT LLM_REDUCE(comments, 'What do they agree on?') FROM posts",
)
