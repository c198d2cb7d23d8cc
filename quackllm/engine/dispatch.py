"""Requests to a provider, a bounded number at a time, in the order given.

The order of the requests is the order of sending: whoever orders them for reuse of
prefixes relies on that. Nothing is rendered, kept or awaited ahead of its turn, so a
million requests cost as much memory as the calls in flight and those that pause before
another try.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from quackllm.engine.providers.base import Rejected, Usage
from quackllm.engine.task_group import task_group
from quackllm.engine.traffic.endpoint import Limits
from quackllm.engine.well_formed import well_formed
from quackllm.errors import CallError, InvalidAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from quackllm.engine.providers.base import Provider, Reply, Request
    from quackllm.engine.traffic.endpoint import Endpoint
    from quackllm.engine.traffic.slots import Turn

OPEN_PER_SLOT = 5
"""Calls that are begun and not ended, pausing ones included, per call that may be in flight."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended: an answer or an error, never both.

    answer: what `parse` made of the reply's text, None for an SQL NULL.
    usage: tokens of all replies, also of one that was rejected; a second request that was
        given up counts as one that took as many as the first.
    calls: replies asked of the model: 2 when the first could not be parsed, or when a second
        request was sent because the first one took long.
    retries: further tries because the server failed.
    seconds: from the first turn to the end, pauses and retries included.
    """

    answer: str | None
    error: CallError | None
    usage: Usage
    calls: int
    retries: int
    seconds: float


async def dispatch(
    provider: Provider,
    requests: Iterable[tuple[int, Request]],
    *,
    endpoint: Endpoint,
    deliver: Callable[[int, Outcome], None],
    parse: Callable[[str], str | None] = str,
    may_send_another: Callable[[], bool] = lambda: True,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send the requests in order, as many at a time as the endpoint allows.

    requests: (index, request) pairs, taken from the iterable when they are sent.
    parse: reads the text of a reply; an `InvalidAnswer` that it raises is shown to the
        model, which is asked once more if `may_send_another` says so; it counts a call.
    deliver: called in the event loop with the index and the outcome, as calls end.

    Raises what stops a statement: a `ProviderError`, or whatever the iterable,
    `deliver` or a broken provider raises. Then, and when the awaiting task is
    cancelled, nothing more is sent, and the calls in flight are cancelled and awaited
    before this returns. A `CallError` is the outcome of its row and stops nothing.
    """
    sender = _Sender(
        provider, endpoint, parse, may_send_another, deliver, limits or Limits(), clock
    )
    async with task_group() as group:
        await sender.send_all(iter(requests), group)


class _Sender:
    """What the calls of one dispatch have in common."""

    def __init__(
        self,
        provider: Provider,
        endpoint: Endpoint,
        parse: Callable[[str], str | None],
        may_send_another: Callable[[], bool],
        deliver: Callable[[int, Outcome], None],
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._provider = provider
        self._endpoint = endpoint
        self._parse = parse
        self._may_send_another = may_send_another
        self._deliver = deliver
        self._limits = limits
        self._clock = clock
        self._open = 0
        self._one_ended = asyncio.Event()

    async def send_all(
        self, pending: Iterator[tuple[int, Request]], group: asyncio.TaskGroup
    ) -> None:
        """Start one task per request, each when there is a slot for it."""
        while True:
            turn = await self._endpoint.acquire()
            try:
                item = next(pending, None)
            except BaseException:
                turn.release()
                raise
            if item is None:
                turn.release()
                return
            self._open += 1
            task = group.create_task(self._run(*item, turn))
            # Not in a `finally` of the task: one cancelled before its first step has none,
            # and after an error nothing more may be sent.
            task.add_done_callback(partial(self._ended, turn))
            while self._open >= OPEN_PER_SLOT * self._endpoint.concurrency.limit:
                self._one_ended.clear()
                await self._one_ended.wait()

    def _ended(self, turn: Turn, _: asyncio.Task[None]) -> None:
        turn.release()
        self._open -= 1
        self._one_ended.set()

    async def _run(self, index: int, request: Request, turn: Turn) -> None:
        """See one request to its end."""
        began = self._clock()
        account = _Account()
        answer, error = None, None
        try:
            answer = await self._answer(request, turn, account)
        except CallError as failed:
            error = failed
        seconds = self._clock() - began
        self._deliver(
            index, Outcome(answer, error, account.usage, account.calls, account.retries, seconds)
        )

    async def _answer(self, request: Request, turn: Turn, account: _Account) -> str | None:
        """Ask, and ask once more when the answer cannot be parsed."""
        reply = await self._complete(request, turn, account)
        try:
            return self._parse(reply.text)
        except InvalidAnswer as error:
            if self._limits.max_retries == 0 or not self._may_send_another():
                raise
            rejected = Rejected(well_formed(reply.text), well_formed(str(error)))
        reply = await self._complete(replace(request, rejected=rejected), turn, account)
        return self._parse(reply.text)

    def _may_hedge(self, account: _Account) -> bool:
        """Whether a request may be sent a second time; if so, count it."""
        if not self._may_send_another():
            return False
        account.calls += 1
        return True

    async def _complete(self, request: Request, turn: Turn, account: _Account) -> Reply:
        account.calls += 1
        try:
            reply = await self._endpoint.complete(
                self._provider, request, self._limits, turn, lambda: self._may_hedge(account)
            )
        except CallError as error:
            account.retries += error.attempts - 1
            raise
        account.retries += reply.attempts - 1
        account.usage += reply.usage
        return reply


@dataclass(slots=True)
class _Account:
    """Running totals of one request."""

    calls: int = 0
    retries: int = 0
    usage: Usage = field(default_factory=Usage)
