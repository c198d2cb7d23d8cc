"""Requests to a provider, a bounded number at a time, in the order given.

The order of the requests is the order of sending: whoever orders them for reuse of
prefixes relies on that. Nothing is rendered, kept or awaited ahead of its turn, so a
million requests cost as much memory as the calls in flight.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from quackllm.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from quackllm.engine.providers.base import Provider, Reply, Request

# A provider that never suspends must not keep the event loop for longer than this:
# cancellation and progress bars wait for their turn behind it.
_LONGEST_TURN = 0.005


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call ended: a reply or an error, never both.

    seconds: from sending to the end of the call, waiting and retries included.
    """

    reply: Reply | None
    error: CallError | None
    seconds: float


async def dispatch(
    provider: Provider,
    requests: Iterable[tuple[int, Request]],
    *,
    concurrency: int,
    deliver: Callable[[int, Outcome], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send the requests in order, at most `concurrency` at a time; deliver each outcome.

    requests: (index, request) pairs, taken from the iterable when they are sent.
    deliver: called in the event loop with the index and the outcome, as calls end.

    Raises what stops a statement: a `ProviderError`, or whatever the iterable,
    `deliver` or a broken provider raises. Then, and when the awaiting task is
    cancelled, nothing more is sent, and the calls in flight are cancelled and awaited
    before this returns. A `CallError` is the outcome of its row and stops nothing.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; at least 1 call has to be in flight")
    pending = iter(requests)
    crew = _Crew(provider, pending, deliver, clock)
    try:
        async with asyncio.TaskGroup() as group:
            # One worker per request at first, so that a short batch starts few of them.
            for first in islice(pending, concurrency):
                group.create_task(crew.work(first))
    except BaseExceptionGroup as failures:
        first_failure = failures.exceptions[0]
    else:
        return
    # Raised outside the handler: the group must not replace the error's own cause.
    raise first_failure


class _Crew:
    """The workers of one dispatch; they share the iterator and the turn."""

    def __init__(
        self,
        provider: Provider,
        pending: Iterator[tuple[int, Request]],
        deliver: Callable[[int, Outcome], None],
        clock: Callable[[], float],
    ) -> None:
        self._provider = provider
        self._pending = pending
        self._deliver = deliver
        self._clock = clock
        self._turn_began = clock()

    async def work(self, item: tuple[int, Request] | None) -> None:
        """Run one call after another until no request is left."""
        complete, clock, deliver = self._provider.complete, self._clock, self._deliver
        while item is not None:
            index, request = item
            started = clock()
            try:
                reply = await complete(request)
            except CallError as error:
                ended = clock()
                outcome = Outcome(None, error, ended - started)
            else:
                ended = clock()
                outcome = Outcome(reply, None, ended - started)
            deliver(index, outcome)
            if ended - self._turn_began > _LONGEST_TURN:
                await asyncio.sleep(0)
                self._turn_began = clock()
            item = next(self._pending, None)
