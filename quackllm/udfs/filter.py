"""LLM_FILTER(prompt, ...): true or false.

Asked as true or false rather than yes or no: the words fit statements as well as
questions, begin with tokens of their own, and a very small model (SmolLM2-135M,
calibrated) says yes to nearly every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quackllm.errors import BindError
from quackllm.udfs.answers import (
    TRUE_FALSE,
    choice_tokens,
    flags_answer,
    read_flags,
    read_true_false,
)
from quackllm.udfs.base import (
    Binding,
    Choice,
    Declaration,
    Function,
    Inquiry,
    Kind,
    Option,
    Parameter,
)
from quackllm.udfs.options import one_of, whole
from quackllm.udfs.prompt import ask

MOST_CANDIDATES = 1_000
SHARED, ENTRIES = "shared", "entries"
"""What a prompt about several entries shows: what they have in common, and each by its number."""


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for a wrong template, and for other options."""
    if binding.options["candidates"] is not None and binding.options["strategy"] != "block":
        raise BindError("candidates says which pairs strategy := 'block' asks: give it, too")
    return Declaration(
        instruction=ask(
            "Is this true or false of the data?",
            binding.constants.get("prompt"),
            binding.fields,
            "Question",
        ),
        returns="BOOLEAN",
        answer=Choice(TRUE_FALSE),
        parse=read_true_false,
        max_tokens=choice_tokens(TRUE_FALSE),
    )


def of_several(prompt: str | None, fields: Sequence[str], count: int, *, shared: bool) -> Inquiry:
    """Return the question for `count` entries at once, numbered from 1.

    prompt, fields: of LLM_FILTER; the prompt is None where it is a field. shared: whether some
    of the fields are the same for all entries and stand once.
    """
    each = f'each entry, which has what is "{SHARED}" too' if shared else "each entry"
    return Inquiry(
        "several",
        (SHARED, ENTRIES) if shared else (ENTRIES,),
        Declaration(
            instruction=ask(
                f"Is this true or false of {each}?\n"
                'Reply in JSON {"answer": [true or false, ...]}, one for each entry, in order.',
                prompt,
                fields,
                "Question",
            ),
            returns="BOOLEAN[]",
            answer=flags_answer(count),
            parse=partial(read_flags, count=count),
            max_tokens=32 + 8 * count,
        ),
        has_fallback=True,
    )


FILTER = Function(
    name="llm_filter",
    aliases=("ai_filter",),
    summary="whether the prompt holds for the row",
    parameters=(
        Parameter("prompt", Kind.PROMPT, "a question or a statement; {name} refers to an argument"),
        Parameter("arguments", Kind.VALUES, "the data of the row"),
    ),
    options=(
        Option(
            "strategy",
            "as the condition of a join: 'exact' asks every pair; 'block' those of near texts, "
            "by LLM_EMBED; 'classify' which values of the right side fit each of the left; "
            "'batch_prompt' several pairs in each prompt",
            one_of("exact", "block", "classify", "batch_prompt"),
            affects_answer=False,
        ),
        Option(
            "candidates",
            "with strategy := 'block': with how many of the nearest values of the other side each "
            "value is compared; as many as llm_target_recall needs when not set",
            whole(1, MOST_CANDIDATES),
            affects_answer=False,
        ),
    ),
    declare=declare,
    version=2,
    example="SELECT title FROM films WHERE LLM_FILTER('Is it suitable for children?', synopsis)",
)
