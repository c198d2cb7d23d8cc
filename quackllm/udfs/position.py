"""LLM_POSITION(values, criterion, place): where in a list the first or the last value stands."""

from __future__ import annotations

import json
from collections.abc import Sequence

from quackllm.errors import BindError
from quackllm.udfs.answers import read_text
from quackllm.udfs.base import (
    NOTHING,
    Answered,
    Ask,
    Binding,
    Declaration,
    FreeText,
    Function,
    Kind,
    Parameter,
    Round,
    Rounds,
)
from quackllm.udfs.comparing import BOTH_ORDERS, Comparing, comparison
from quackllm.udfs.options import one_of
from quackllm.udfs.ranking import End, drawn_order, end_of, expected_comparisons, wanted_of
from quackllm.udfs.rounds import in_step


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for a wrong criterion or place, or two lists."""
    if len(binding.fields) > 1:
        raise BindError(f"values must be one list, not {' and '.join(binding.fields)}")
    inquiry = comparison(binding)
    both_orders = bool(binding.options["both_orders"])
    end = _end(binding.constants["place"])

    def solve(tuples: Sequence[tuple[str, ...]], ask: Ask) -> list[Answered]:
        lists = [items_of(text) for (text,) in tuples]
        comparing = Comparing(inquiry, ask, both_orders=both_orders)
        found = in_step([end_of(_drawn(items), end) for items in lists], comparing)
        return [
            str(items.index(text) + 1) if isinstance(text, str) else text
            for items, text in zip(lists, found, strict=True)
        ]

    def expected(values: tuple[str, ...]) -> list[Round]:
        count = len(_drawn(items_of(values[0])))
        times = 2 if both_orders else 1
        calls, pairs = expected_comparisons(count, wanted_of(end)), count * (count - 1) // 2
        return [Round(inquiry, calls * times, pairs * times, shown=2 / max(count, 1))]

    return Declaration(
        instruction=inquiry.declaration.instruction,
        returns="BIGINT",
        answer=FreeText(),
        parse=read_text,
        max_tokens=inquiry.declaration.max_tokens,
        rounds=Rounds(solve, expected),
    )


def _end(place: object) -> End:
    try:
        return "last" if one_of("first", "last")(place) == "last" else "first"
    except ValueError as error:
        raise BindError(f"place {error}") from None


def _drawn(items: Sequence[str]) -> list[str]:
    """Return what is compared of a list, in the drawn order: each value once, without NULLs."""
    distinct = sorted(set(items) - {NOTHING})
    return [distinct[at] for at in drawn_order(distinct)]


def items_of(text: str) -> list[str]:
    """Return the texts of the values of a JSON array, each as it is written there.

    Read and written again, a number of many digits would be another one. Raises `BindError`
    for a value that is no list.
    """
    if not text.startswith("["):
        raise BindError(f"Binder Error: LLM_POSITION: values must be a list, not {text[:80]}")
    decoder = json.JSONDecoder()
    items = []
    at = _behind_blanks(text, 1)
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        items.append(text[at:end])
        at = _behind_blanks(text, end)
        if text[at] == ",":
            at = _behind_blanks(text, at + 1)
    return items


def _behind_blanks(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


POSITION = Function(
    name="llm_position",
    aliases=("ai_position",),
    summary="the position in a list of the value that fits the criterion most, or least",
    parameters=(
        Parameter("values", Kind.VALUE, "a list"),
        Parameter("criterion", Kind.CONSTANT, "which of two values is to come first"),
        Parameter("place", Kind.CONSTANT, "'first' or 'last': of which value the position is"),
    ),
    options=(BOTH_ORDERS,),
    declare=declare,
    example="SELECT tags[LLM_POSITION(tags, 'which is more specific', 'first')] FROM posts",
)
