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

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Capabilities
    from quackllm.engine.sending_order import SendingOrder
    from quackllm.optimizer.program import ModelStage
    from quackllm.udfs.base import Call

ASSUMED_SHARE = 0.5
"""Part of the rows that are taken to reach a question behind a condition."""


@dataclass(frozen=True)
class Later:
    """A question that shows the same fields. share: part of the rows that reaches it."""

    instruction: int
    share: float


def instruction_tokens(call: Call) -> int:
    """Estimate the tokens of a call's instruction."""
    return int(len(call.declaration.instruction) / CHARS_PER_TOKEN)


def later_questions(call: Call, asked: Sequence[tuple[Call, bool]]) -> list[Later]:
    """Return the questions after a call that show the same fields.

    asked: every call of the statement in the order in which they are made, and whether its
        rows have to fulfil a condition.
    """
    specs = [each.spec for each, _ in asked]
    if not call.fields or call.pin or call.spec not in specs:
        return []
    return [
        Later(instruction_tokens(each), ASSUMED_SHARE if guarded else 1.0)
        for each, guarded in asked[specs.index(call.spec) + 1 :]
        if shown(each) == shown(call) and each.identity != call.identity and not each.pin
    ]


def saved_tokens(
    call: Call, later: Sequence[Later], calls: int, total: int, reused: int, can: Capabilities
) -> float:
    """Estimate the prompt tokens that need not be computed with the row in front.

    calls: of the first question. total, reused: tokens of its prompts, and of them those
        that its order lets the server reuse with the instruction in front.
    Negative where the other layout is cheaper, and 0 where the cache does not hold the rows.
    """
    fresh = total - reused
    if can.cache_tokens is not None and fresh + calls * instruction_tokens(call) > can.cache_tokens:
        return 0.0
    gain = sum(one.share * (fresh - calls * (one.instruction + _unfinished(can))) for one in later)
    return gain - calls * instruction_tokens(call)


def shown(call: Call) -> tuple[str | None, frozenset[str]]:
    """Return what two calls have in common whose prompts can begin alike."""
    return call.model, frozenset(call.fields)


def reused_by_first(call: Call, calls: int, reused: int) -> int:
    """Return the tokens that the first question reuses: the instruction is no longer of them."""
    return max(0, reused - calls * instruction_tokens(call))


def reused_by_later(call: Call, calls: int, total: int, can: Capabilities) -> int:
    """Return the tokens that a later question reuses: whole rows, up to their last block."""
    return max(0, total - round(calls * (instruction_tokens(call) + _unfinished(can))))


def _unfinished(can: Capabilities) -> float:
    """Return the tokens of a row that stand in a block with what follows it, on average."""
    return (can.prefix_granularity or DEFAULT_BLOCK) / 2


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
        known = {} if call.pin else self._sent.get(shown(call), {})
        following = [row for row, key in enumerate(keys) if key in known]
        if following:
            followed = _followed(call, keys, order, known)
            part = len(following) / len(keys)
            reused = reused_by_later(call, len(following), round(order.total * part), can)
            followed = replace(followed, reused=max(order.reused, reused))
            return followed, frozenset(keys[row] for row in following)
        later = later_questions(call, self._asked)
        if saved_tokens(call, later, len(keys), order.total, order.reused, can) <= 0:
            return order, frozenset()
        self._remember(call, keys, order)
        reused = reused_by_first(call, len(keys), order.reused)
        return replace(order, reused=reused), frozenset(keys)

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
