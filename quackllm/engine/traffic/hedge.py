"""Hedged requests: a call that takes unusually long is sent a second time.

The first answer wins, and the other request is cancelled (Dean and Barroso 2013, "The tail at
scale"). What is unusual is learned: more than 95 of 100 calls take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from quackllm.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PERCENTILE = 0.95
FEWEST = 20
"""Latencies that have to be known before any is called unusual."""

SOONEST = 0.01
"""Seconds before which no second request is sent, however fast the others are."""

_LATEST = 200

_T = TypeVar("_T")


class Latencies:
    """Seconds that the latest requests took; of one that was cancelled, until then."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=_LATEST)

    def add(self, seconds: float) -> None:
        """Take a request into account."""
        self._latest.append(seconds)

    def unusual(self) -> float | None:
        """Return the seconds after which a request takes unusually long, None if not known."""
        if len(self._latest) < FEWEST:
            return None
        return max(SOONEST, sorted(self._latest)[int(PERCENTILE * len(self._latest))])


async def first_answer(
    request: Coroutine[Any, Any, _T],
    delay: float,
    twin: Callable[[], asyncio.Task[_T] | None],
) -> tuple[_T, int]:
    """Await a request and, when it takes long, its twin; return the answer that comes first.

    With it comes how many requests the server has worked on for nothing: 1 when the other
    one was cancelled or answered in the same moment, 0 when it failed or was never sent.

    twin: called after `delay` seconds without an answer; sends the second request, or
        returns None when that cannot be now, and is called again after as many seconds.

    Raises what stops a statement at once, and the first request's `CallError` when both have
    failed. However this ends, no request is left in flight.
    """
    first = asyncio.ensure_future(request)
    sent = [first]
    try:
        await asyncio.wait(sent, timeout=delay)
        while not first.done() and len(sent) == 1:
            if (second := twin()) is not None:
                sent.append(second)
            else:
                await asyncio.wait(sent, timeout=delay)
        pending = set(sent)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not isinstance(task.exception(), CallError):
                    others = [other for other in sent if other is not task]
                    return task.result(), sum(not _has_failed(other) for other in others)
        return first.result(), 0
    finally:
        for task in sent:
            task.cancel()
        await asyncio.gather(*sent, return_exceptions=True)


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and task.exception() is not None
