"""LLM_RANK(prompt, ...): the place of a row among all rows, from comparisons of two.

A model says more reliably which of two is more than how much one is, and needs no scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quackllm.udfs.answers import choice_tokens, read_choice, read_text
from quackllm.udfs.base import (
    Answered,
    Ask,
    Binding,
    Choice,
    Declaration,
    FreeText,
    Function,
    Inquiry,
    Joint,
    Kind,
    Option,
    Parameter,
    Round,
    Wanted,
)
from quackllm.udfs.options import boolean, named_text
from quackllm.udfs.prompt import DATA_NOTE, fill_template, render_fields
from quackllm.udfs.ranking import (
    Outcome,
    Pair,
    Ranking,
    drawn_order,
    expected_comparisons,
    is_swapped,
)

SIDES = ("A", "B")
"""What the two that are compared are called; one token each, and neither says anything."""


def comparison(criterion: str) -> Inquiry:
    """Return the question which of two fits a criterion more."""
    declaration = Declaration(
        instruction=(
            f"The data shows two entries, A and B. Which of the two fits the criterion more?\n"
            f"Criterion: {criterion}\n{DATA_NOTE}\nReply with A or B."
        ),
        returns="VARCHAR",
        answer=Choice(SIDES),
        parse=partial(read_choice, labels=SIDES),
        max_tokens=choice_tokens(SIDES),
    )
    return Inquiry("compare", SIDES, declaration)


class Comparing:
    """Compares texts by asking a model."""

    def __init__(
        self, inquiry: Inquiry, ask: Ask, texts: Sequence[str], *, both_orders: bool
    ) -> None:
        """Make it; `texts` are shown, each the JSON text of one entry."""
        self._inquiry = inquiry
        self._ask = ask
        self._texts = texts
        self._both_orders = both_orders

    def __call__(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """Tell of each pair whether its first entry fits more.

        Asked in one order of the two, which is drawn; in both where that is wanted. Answers
        that contradict each other are a tie, which the first of the pair wins.
        """
        shown = [(self._texts[one], self._texts[other]) for one, other in pairs]
        swapped = [is_swapped(*two) for two in shown]
        turned = [two[::-1] if swap else two for two, swap in zip(shown, swapped, strict=True)]
        found = self._ask(self._inquiry, turned)
        outcomes = [_outcome(answer, swap) for answer, swap in zip(found, swapped, strict=True)]
        if not self._both_orders:
            return outcomes
        again = self._ask(self._inquiry, [two[::-1] for two in turned])
        others = [_outcome(answer, not swap) for answer, swap in zip(again, swapped, strict=True)]
        return [_both(one, other) for one, other in zip(outcomes, others, strict=True)]


def _outcome(answer: Answered, swapped: bool) -> Outcome:
    return (answer == SIDES[0]) is not swapped if isinstance(answer, str) else answer


def _both(one: Outcome, other: Outcome) -> Outcome:
    if not isinstance(one, bool):
        return one
    return one or other if isinstance(other, bool) else other


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for a wrong criterion."""
    criterion = fill_template(
        named_text("criterion", binding.constants["criterion"]), binding.fields
    )
    inquiry = comparison(criterion)
    both_orders = bool(binding.options["both_orders"])

    def solve(tuples: Sequence[tuple[str, ...]], ask: Ask, wanted: Wanted) -> list[Answered]:
        texts = [entry(binding.fields, values) for values in tuples]
        drawn = drawn_order(texts)
        shown = [texts[at] for at in drawn]
        ranking = Ranking(len(shown), wanted)
        ranks = ranking.run(Comparing(inquiry, ask, shown, both_orders=both_orders))
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
    options=(
        Option(
            "both_orders",
            "whether every two are compared twice, each of them shown first once; where the "
            "answers contradict each other, a draw decides",
            boolean,
            False,
        ),
    ),
    declare=declare,
    joint=True,
    example="SELECT title FROM films ORDER BY LLM_RANK('which sounds funnier', synopsis) LIMIT 10",
)
