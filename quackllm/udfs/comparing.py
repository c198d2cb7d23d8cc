"""The question which of two fits a criterion more, as LLM_RANK and LLM_FIRST ask it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from quackllm.udfs.answers import choice_tokens, read_choice
from quackllm.udfs.base import Answered, Ask, Binding, Choice, Declaration, Inquiry, Option
from quackllm.udfs.options import boolean, named_text
from quackllm.udfs.prompt import DATA_NOTE, fill_template
from quackllm.udfs.ranking import Outcome, is_swapped

SIDES = ("A", "B")
"""What the two that are compared are called; one token each, and neither says anything."""

BOTH_ORDERS = Option(
    "both_orders",
    "whether every two are compared twice, each of them shown first once; where the "
    "answers contradict each other, a draw decides",
    boolean,
    False,
)


def comparison(binding: Binding) -> Inquiry:
    """Return the question that a call's `criterion` asks about two.

    Raises `BindError` for a wrong criterion.
    """
    written: Any = binding.constants["criterion"]
    criterion = fill_template(named_text("criterion", written), binding.fields)
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
    """Compares texts by asking a model: each the JSON text of one entry."""

    def __init__(self, inquiry: Inquiry, ask: Ask, *, both_orders: bool) -> None:
        self._inquiry = inquiry
        self._ask = ask
        self._both_orders = both_orders

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """Tell of each pair whether its first entry fits more.

        Asked in one order of the two, which is drawn; in both where that is wanted. Answers
        that contradict each other are a tie, which the first of the pair wins.
        """
        swapped = [is_swapped(*two) for two in pairs]
        turned = [two[::-1] if swap else two for two, swap in zip(pairs, swapped, strict=True)]
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
