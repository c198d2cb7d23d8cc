"""Two functions over the same fields: the row before the question, so that both share it.

With the instruction in front, a second function shares nothing of a row that the first one has
shown. With the row in front it finds the whole row in the server's prefix cache, but the
instruction has to be computed for every row. Which is less is counted in tokens, when the
order of the first function's rows is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from quackllm.engine.sending_order import DEFAULT_BLOCK
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.udfs.prompt import DATA_NOTE

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Capabilities
    from quackllm.engine.sending_order import SendingOrder
    from quackllm.engine.settings import Settings
    from quackllm.optimizer.program import ModelStage
    from quackllm.udfs.base import Call

ASSUMED_SHARE = 0.5
"""Part of the rows that are taken to reach a question behind a condition."""


@dataclass(frozen=True)
class Sending:
    """What one question sends with the instruction in front, in estimated tokens.

    calls: prompts. total: their tokens. reused: of them, what its order lets the server
        reuse. can: the provider that is asked.
    """

    calls: int
    total: int
    reused: int
    can: Capabilities

    @property
    def unfinished(self) -> float:
        """Tokens of a row in one block with what follows it, on average: never reused."""
        return (self.can.prefix_granularity or DEFAULT_BLOCK) / 2

    def keeps_rows(self, question: int) -> bool:
        """Whether the server still has every row when the next question comes to it."""
        can = self.can
        if can.kept_prompts is not None and self.calls > can.kept_prompts:
            return False
        if self.total - self.calls * question < self.calls * can.prefix_minimum:
            return False
        fresh = self.total - self.reused + self.calls * question
        return can.cache_tokens is None or fresh <= can.cache_tokens

    def reused_by_first(self, question: int) -> int:
        """Return what the first question reuses with the row in front: its question not."""
        return max(0, self.reused - self.calls * question)

    def reused_by_later(self, question: int) -> int:
        """Return what a later question reuses: whole rows, up to their last block."""
        return max(0, self.total - round(self.calls * (question + self.unfinished)))


def is_wanted(settings: Settings, can: Capabilities) -> bool:
    """Whether rows may go in front: the setting, else what is known of the model."""
    return can.row_first if settings.row_first is None else settings.row_first


def question_tokens(call: Call) -> int:
    """Estimate the tokens of an instruction that stand behind the row: not the note on data."""
    return int(len(call.declaration.instruction.replace(DATA_NOTE, "")) / CHARS_PER_TOKEN)


def shown(call: Call) -> tuple[str | None, frozenset[str]]:
    """Return what two calls have in common whose prompts can begin alike."""
    return call.model, frozenset(call.fields)


def _stands_alone(call: Call) -> bool:
    """Whether the layout of a call is fixed: its fields are pinned, or it has no question."""
    return bool(call.pin) or call.embeds


def saved_tokens(call: Call, asked: Sequence[tuple[Call, bool]], sending: Sending) -> float:
    """Estimate the prompt tokens that need not be computed with the row of a call in front.

    asked: every call of the statement in the order in which they are made, and whether its
        rows have to fulfil a condition.
    Negative where the other layout is cheaper; 0 where no question follows about the same
    fields, or where the server will have forgotten the rows.
    """
    own = question_tokens(call)
    later = _later_questions(call, asked)
    if not later or not sending.keeps_rows(own):
        return 0.0
    fresh = sending.total - sending.reused
    lost = sending.reused - sending.reused_by_first(own)
    return -lost + sum(
        share * (fresh - sending.calls * (question_tokens(one) + sending.unfinished))
        for one, share in later
    )


def _later_questions(call: Call, asked: Sequence[tuple[Call, bool]]) -> list[tuple[Call, float]]:
    """Return the other questions about the same fields, and the part of the rows they get."""
    specs = [each.spec for each, _ in asked]
    if not call.fields or _stands_alone(call) or call.spec not in specs:
        return []
    return [
        (each, ASSUMED_SHARE if guarded else 1.0)
        for each, guarded in asked[specs.index(call.spec) + 1 :]
        if shown(each) == shown(call) and each.identity != call.identity and not _stands_alone(each)
    ]


@dataclass(frozen=True)
class _Sent:
    """Where a row stood among those sent with the row in front, and the order of its fields."""

    place: int
    fields: tuple[str, ...]


class RowsInFront:
    """What one statement has sent with the row in front, so that later questions follow."""

    def __init__(self) -> None:
        self._asked: list[tuple[Call, bool]] = []
        self._sent: dict[tuple[str | None, frozenset[str]], dict[str, _Sent]] = {}

    def plan(self, stages: Sequence[ModelStage]) -> None:
        """Take the model stages that are about to run, in their order."""
        self._asked = [(stage.call, bool(stage.guard)) for stage in stages]

    def arrange(
        self, call: Call, keys: Sequence[str], order: SendingOrder, can: Capabilities
    ) -> tuple[SendingOrder, frozenset[str]]:
        """Return the order to send, and the keys whose row goes in front of the question.

        keys: of the rows, the same for every call that shows the same values.
        """
        own = question_tokens(call)
        known = {} if _stands_alone(call) else self._sent.get(shown(call), {})
        following = [key for key in keys if key in known]
        if following:
            followed = _followed(call, keys, order, known)
            part = len(following) / len(keys)
            sending = Sending(len(following), round(order.total * part), 0, can)
            reused = max(order.reused, sending.reused_by_later(own))
            return replace(followed, reused=reused), frozenset(following)
        sending = Sending(len(keys), order.total, order.reused, can)
        if saved_tokens(call, self._asked, sending) <= 0:
            return order, frozenset()
        self._remember(call, keys, order)
        return replace(order, reused=sending.reused_by_first(own)), frozenset(keys)

    def _remember(self, call: Call, keys: Sequence[str], order: SendingOrder) -> None:
        sent = self._sent.setdefault(shown(call), {})
        for place, row in enumerate(order.rows.tolist()):
            within = range(len(call.fields)) if order.fields is None else order.fields[place]
            sent[keys[row]] = _Sent(len(sent), tuple(call.fields[at] for at in within))


def _followed(
    call: Call, keys: Sequence[str], order: SendingOrder, known: dict[str, _Sent]
) -> SendingOrder:
    """Return the order with the known rows as they were sent before, and the others behind."""
    rows = order.rows.tolist()
    given = np.arange(len(call.fields))
    within = {
        row: given if order.fields is None else order.fields[place]
        for place, row in enumerate(rows)
    }
    first = sorted((row for row in rows if keys[row] in known), key=lambda r: known[keys[r]].place)
    for row in first:
        within[row] = np.array([call.fields.index(name) for name in known[keys[row]].fields])
    sent = first + [row for row in rows if keys[row] not in known]
    return replace(order, rows=np.array(sent), fields=np.array([within[row] for row in sent]))
