"""LLM_SENTIMENT(input): positive, negative or neutral."""

from __future__ import annotations

from functools import partial

from quackllm.udfs.answers import choice_tokens, read_choice
from quackllm.udfs.base import Binding, Choice, Declaration, Function, Kind, Parameter
from quackllm.udfs.prompt import DATA_NOTE

LABELS = ("positive", "negative", "neutral")


def declare(binding: Binding) -> Declaration:
    """Return the declaration."""
    return Declaration(
        instruction=(
            f"Judge the sentiment of the data: reply with {LABELS[0]}, {LABELS[1]} or "
            f"{LABELS[2]} (neutral: no feeling, or mixed).\n{DATA_NOTE}"
        ),
        returns="VARCHAR",
        answer=Choice(LABELS),
        parse=partial(read_choice, labels=LABELS),
        max_tokens=choice_tokens(LABELS),
    )


SENTIMENT = Function(
    name="llm_sentiment",
    aliases=("ai_sentiment",),
    summary="positive, negative or neutral",
    parameters=(Parameter("input", Kind.VALUE, "the text to judge"),),
    declare=declare,
    version=2,
    example="SELECT LLM_SENTIMENT(review), count(*) FROM reviews GROUP BY 1",
)
