"""LLM_SCORE(prompt, ...): how much the prompt holds, as a number in a range."""

from __future__ import annotations

from functools import partial

from quackllm.errors import BindError, InvalidAnswer
from quackllm.udfs.answers import read_typed
from quackllm.udfs.base import Binding, Declaration, Function, Kind, Number, Option, Parameter
from quackllm.udfs.options import number
from quackllm.udfs.prompt import ask
from quackllm.udfs.types import Float


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for an empty range or a wrong template."""
    low, high = binding.options["min"], binding.options["max"]
    if not low < high:
        raise BindError(f"min ({low:g}) must be less than max ({high:g})")
    return Declaration(
        instruction=ask(
            f"Score the data from {low:g} (lowest) to {high:g} (highest): reply with a number.",
            binding.constants.get("prompt"),
            binding.fields,
            "Criterion",
        ),
        returns="DOUBLE",
        answer=Number(low, high),
        parse=partial(read_score, low=low, high=high),
        max_tokens=32,
        bounds=(low, high),
    )


def read_score(text: str, low: float, high: float) -> str:
    """Return the number. Raises `InvalidAnswer`, also for one outside the range.

    Where decoding is constrained it keeps to a range of whole numbers; elsewhere, and for
    other bounds, what is outside is found out here.
    """
    read = read_typed(text, Float("DOUBLE"))
    if read is None or not low <= float(read) <= high:
        raise InvalidAnswer(f"$: {read} is not between {low:g} and {high:g}")
    return read


SCORE = Function(
    name="llm_score",
    aliases=("ai_score",),
    summary="how much the prompt holds for the row, as a number from min to max",
    parameters=(
        Parameter("prompt", Kind.PROMPT, "what to score; {name} refers to an argument"),
        Parameter("arguments", Kind.VALUES, "the data of the row"),
    ),
    options=(
        Option("min", "the lowest score", number(), 0.0),
        Option("max", "the highest score", number(), 1.0),
    ),
    declare=declare,
    version=2,
    example="SELECT * FROM tickets ORDER BY LLM_SCORE('How urgent is this?', body) DESC LIMIT 10",
)
