"""LLM_RANK(prompt, ...): the place of a row among all rows, from comparisons of two.

A model says more reliably which of two is more than how much one is, and needs no scale.
"""

from __future__ import annotations

from collections.abc import Sequence

from quackllm.udfs.answers import read_text
from quackllm.udfs.base import (
    Answered,
    Ask,
    Binding,
    Declaration,
    FreeText,
    Function,
    Joint,
    Kind,
    Parameter,
    Round,
    Wanted,
)
from quackllm.udfs.comparing import BOTH_ORDERS, Comparing, comparison
from quackllm.udfs.prompt import render_fields
from quackllm.udfs.ranking import Ranking, drawn_order, expected_comparisons
from quackllm.udfs.rounds import in_step


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for a wrong criterion."""
    inquiry = comparison(binding)
    both_orders = bool(binding.options["both_orders"])

    def solve(tuples: Sequence[tuple[str, ...]], ask: Ask, wanted: Wanted) -> list[Answered]:
        texts = [entry(binding.fields, values) for values in tuples]
        drawn = drawn_order(texts)
        shown = [texts[at] for at in drawn]
        ranking = Ranking(len(shown), wanted)
        comparing = Comparing(inquiry, ask, both_orders=both_orders)
        [ranks] = in_step([ranking.rounds(shown)], comparing)
        answers: list[Answered] = [None] * len(texts)
        for number, at in enumerate(drawn):
            rank = ranks.get(number)
            answers[at] = ranking.set_aside.get(number) if rank is None else str(rank)
        return answers

    def expected(count: int, wanted: Wanted) -> list[Round]:
        times = 2 if both_orders else 1
        calls, pairs = expected_comparisons(count, wanted), count * (count - 1) // 2
        return [Round(inquiry, calls * times, pairs * times, shown=2)]

    return Declaration(
        instruction=inquiry.declaration.instruction,
        returns="BIGINT",
        answer=FreeText(),
        parse=read_text,
        max_tokens=inquiry.declaration.max_tokens,
        joint=Joint(solve, expected, ranks=True),
    )


def entry(fields: Sequence[str], values: Sequence[str]) -> str:
    """Return the JSON text of one entry: a value as it is, several with their names."""
    return values[0] if len(values) == 1 else render_fields(fields, values)


RANK = Function(
    name="llm_rank",
    aliases=("ai_rank",),
    summary="the rank of the row among all rows of the SELECT, 1 for what fits the criterion most",
    parameters=(
        Parameter(
            "criterion",
            Kind.CONSTANT,
            "which of two is to come first; {name} refers to an argument",
        ),
        Parameter("arguments", Kind.VALUES, "the data of the row"),
    ),
    options=(BOTH_ORDERS,),
    declare=declare,
    joint=True,
    example="SELECT title FROM films ORDER BY LLM_RANK('which sounds funnier', synopsis) LIMIT 10",
)
