"""One endpoint, as all statements of an engine share it.

Each call gets its turn, at the pace that settings and server allow, and is made again
where that helps. A server that goes away is waited for.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from quackllm.engine.traffic.breaker import FIRST_PAUSE, Breaker, State
from quackllm.engine.traffic.concurrency import AdaptiveConcurrency
from quackllm.engine.traffic.hedge import Latencies, first_answer
from quackllm.engine.traffic.rate import Pace
from quackllm.engine.traffic.retry import LONGEST_WAIT, may_try_again, pause_before_next
from quackllm.engine.traffic.slots import Slots, Turn
from quackllm.errors import CallError, RateLimited, ServerUnreachable, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from quackllm.engine.providers.base import Allowance, Provider, Reply, Request

_CHARS_PER_TOKEN = 4
_SHARE_OF_LATEST = 0.1  # of the latest reply in the average length of replies
_FEWEST_SILENT = 3
_SILENT_ROUNDS = 2
_SECONDS_UNTOLD = 1.0


@dataclass(frozen=True)
class Limits:
    """What the settings allow at an endpoint; None sets no limit.

    max_retries: further tries of one call.
    reconnect_timeout: seconds that a server which was there may be away.
    hedge: send a call that takes unusually long a second time.
    """

    max_retries: int = 4
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    reconnect_timeout: float = 30.0
    hedge: bool = False


class Endpoint:
    """The way to one endpoint, for any number of dispatches in one event loop.

    `acquire` waits for a turn; `complete` makes a call in it. While a call pauses before
    it is tried again, its slot is free for others.
    """

    def __init__(
        self,
        concurrency: int,
        most: int | None = None,
        *,
        notify: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        """Make the way to an endpoint.

        concurrency: calls in flight at first; most: at most, when calls go well.
        notify: takes one line for the person, when the server is away.
        """
        self.concurrency = AdaptiveConcurrency(concurrency, most or concurrency, clock=clock)
        self.breaker = Breaker(clock=clock)
        self._slots = Slots(lambda: self.concurrency.limit)
        self._requests = Pace(clock=clock)
        self._tokens = Pace(clock=clock)
        self._reply_tokens = self._call_tokens = 0.0
        self._latencies = Latencies()
        self._silent_in_a_row = 0
        self._most_silent = max(_FEWEST_SILENT, _SILENT_ROUNDS * concurrency)
        self._outage_told = False
        self._notify = notify
        self._clock = clock
        self._random = random or Random()

    @property
    def in_flight(self) -> int:
        """Slots that are taken now."""
        return self._slots.taken

    @property
    def free(self) -> int:
        """Slots in which a call could be sent now; none while the server is away."""
        if self.breaker.state is not State.CLOSED:
            return 0
        return max(0, self.concurrency.limit - self.in_flight)

    async def acquire(self) -> Turn:
        """Wait for a turn."""
        return await self._slots.acquire()

    async def complete(
        self,
        provider: Provider,
        request: Request,
        limits: Limits,
        turn: Turn,
        may_hedge: Callable[[], bool] = lambda: True,
    ) -> Reply:
        """Make a call in its turn, again where that helps.

        may_hedge: asked before a second request is sent for a try that takes long; it
            counts that as a call when it says yes.
        Returns the reply with the number of tries in `attempts`. Raises the `CallError` of
        the last try, its `attempts` set, and a `ProviderError` that stops the statement:
        `ServerUnreachable` when the server is away for longer than
        `limits.reconnect_timeout` or answers nothing any more, `RateLimited` when it wants
        a pause that is too long.
        """
        tries = silences = 0
        while True:
            tries += 1
            try:
                reply = await self._reach(provider, request, limits, may_hedge)
            except CallError as error:
                silences += error.trouble is Trouble.SILENT
                error.attempts = tries
                if not may_try_again(error, tries, silences, limits.max_retries):
                    raise
                pause = pause_before_next(error, tries, self._random)
                _refuse_long_pause(provider, pause, error)
            else:
                return reply if tries == 1 else replace(reply, attempts=tries)
            turn.release()
            await asyncio.sleep(pause)
            await turn.resume()

    async def _reach(
        self, provider: Provider, request: Request, limits: Limits, may_hedge: Callable[[], bool]
    ) -> Reply:
        """Make one try; a server to which there is no connection is waited for meanwhile."""
        while True:
            await self._until_reachable(provider, limits)
            is_probe = self.breaker.state is State.HALF_OPEN
            try:
                tokens = await self._until_allowed(provider, request, limits)
                trying = self._try(provider, request, limits, tokens)
                delay = self._latencies.unusual() if limits.hedge else None
                if delay is None or is_probe:
                    return await trying
                reply, beside = await first_answer(
                    trying,
                    delay,
                    lambda: self._twin(provider, request, limits, may_hedge),
                )
                return _with_the_other(reply) if beside else reply
            except CallError as error:
                if error.trouble is not Trouble.UNREACHABLE:
                    raise
            finally:
                if is_probe:
                    self.breaker.abandoned()
            await asyncio.sleep(FIRST_PAUSE)

    def _twin(
        self, provider: Provider, request: Request, limits: Limits, may_hedge: Callable[[], bool]
    ) -> asyncio.Task[Reply] | None:
        """Send a request a second time, if there is room that no other call waits for."""
        counted = limits.requests_per_minute or limits.tokens_per_minute
        held = max(self._requests.held(), self._tokens.held())
        if counted or held or self.breaker.state is not State.CLOSED:
            return None
        turn = self._slots.try_acquire()
        if turn is None:
            return None
        if not may_hedge():
            turn.release()
            return None
        task = asyncio.create_task(self._try(provider, request, limits, 0.0))
        # Not in a `finally` of the task: one cancelled before its first step has none.
        task.add_done_callback(lambda _: turn.release())
        return task

    async def _try(
        self, provider: Provider, request: Request, limits: Limits, tokens: float
    ) -> Reply:
        """Call the provider and remember what that says about the server."""
        began = self._clock()
        try:
            reply = await provider.complete(request)
        except asyncio.CancelledError:
            self._latencies.add(self._clock() - began)
            raise
        except CallError as error:
            self._remember_failure(error, request, self._clock() - began)
            self._stop_if_gone(provider, error, limits)
            raise
        self._responded()
        seconds = self._clock() - began
        self._latencies.add(seconds)
        self.concurrency.finished(seconds, overloaded=False, waited=self._slots.wanted)
        self._remember_tokens(reply, limits, tokens)
        if reply.allowance is not None:
            self._keep_to(reply.allowance)
        return reply

    def _remember_failure(self, error: CallError, request: Request, seconds: float) -> None:
        trouble = error.trouble
        if trouble is Trouble.UNREACHABLE:
            self.breaker.unreachable()
        elif trouble is Trouble.CUT_OFF:
            self.breaker.cut_off((request.instruction, request.fields))
        elif trouble is Trouble.SILENT:
            self._silent_in_a_row += 1
        else:
            self._responded()
        overloaded = trouble in (Trouble.OVERLOADED, Trouble.SILENT)
        if overloaded or trouble is Trouble.FAILED:
            before = self.concurrency.limit
            self.concurrency.finished(seconds, overloaded=overloaded, waited=self._slots.wanted)
            if self.concurrency.limit < before and error.retry_after is not None:
                self._requests.hold(error.retry_after)  # so many refusals are meant for all

    def _responded(self) -> None:
        self.breaker.responded()
        self._silent_in_a_row = 0
        self._outage_told = False

    def _stop_if_gone(self, provider: Provider, error: CallError, limits: Limits) -> None:
        """Raise `ServerUnreachable` when waiting for the server has lasted long enough."""
        away = self.breaker.outage
        if self.breaker.state is State.OPEN and away >= limits.reconnect_timeout:
            raise ServerUnreachable(
                f"Connection Error: {error} (no connection for {away:.1f} s; "
                f"llm_reconnect_timeout is {limits.reconnect_timeout:g} s)"
            ) from None
        if self._silent_in_a_row > self._most_silent:
            raise ServerUnreachable(
                f"Connection Error: {provider.endpoint} takes requests and does not answer: "
                f"{self._silent_in_a_row} in a row, the last: {error}"
            ) from None

    async def _until_reachable(self, provider: Provider, limits: Limits) -> None:
        """Wait while the breaker is open."""
        while (seconds := self.breaker.wait()) > 0:
            if not self._outage_told and self.breaker.outage > _SECONDS_UNTOLD:
                self._outage_told = True
                self._notify(
                    f"no connection to {provider.endpoint}: waiting up to "
                    f"{limits.reconnect_timeout:g} s for it to come back (llm_reconnect_timeout)"
                )
            await asyncio.sleep(seconds)

    async def _until_allowed(self, provider: Provider, request: Request, limits: Limits) -> float:
        """Wait until the call keeps to the limits per minute; return its tokens by estimate."""
        while (seconds := max(self._requests.held(), self._tokens.held())) > 0:
            _refuse_long_pause(provider, seconds)
            await asyncio.sleep(seconds)
        per_minute, tokens_per_minute = limits.requests_per_minute, limits.tokens_per_minute
        if per_minute is None and tokens_per_minute is None:
            return 0.0
        characters = len(request.instruction) + len(request.fields)
        tokens = characters / _CHARS_PER_TOKEN + self._reply_tokens
        wait = 0.0
        if per_minute is not None:
            wait = self._requests.reserve(1, per_minute)
        if tokens_per_minute is not None:
            wait = max(wait, self._tokens.reserve(tokens, tokens_per_minute))
        try:
            if wait > 0:
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            if per_minute is not None:
                self._requests.correct(-1, per_minute)
            if tokens_per_minute is not None:
                self._tokens.correct(-tokens, tokens_per_minute)
            raise
        return tokens

    def _remember_tokens(self, reply: Reply, limits: Limits, estimated: float) -> None:
        """Replace the estimate by what the server counted."""
        usage = reply.usage
        self._reply_tokens += _SHARE_OF_LATEST * (usage.completion_tokens - self._reply_tokens)
        used = usage.prompt_tokens + usage.completion_tokens
        self._call_tokens += _SHARE_OF_LATEST * (used - self._call_tokens)
        if limits.tokens_per_minute is not None and used:
            self._tokens.correct(used - estimated, limits.tokens_per_minute)

    def _keep_to(self, allowance: Allowance) -> None:
        """Hold calls back once the server says that nothing is left for now."""
        if allowance.requests_left == 0 and allowance.requests_reset is not None:
            self._requests.hold(allowance.requests_reset)
        left, reset = allowance.tokens_left, allowance.tokens_reset
        if left is not None and reset is not None and left < self._call_tokens:
            self._tokens.hold(reset)


def _with_the_other(reply: Reply) -> Reply:
    """Count the tokens of a second request that was given up: nobody tells how many they were."""
    return replace(reply, usage=reply.usage + reply.usage)


def _refuse_long_pause(provider: Provider, seconds: float, error: CallError | None = None) -> None:
    """Raise `RateLimited` for a pause that nobody wants to wait for."""
    if seconds > LONGEST_WAIT:
        said = f": {error}" if error is not None else ""
        raise RateLimited(
            f"{provider.endpoint} allows the next call in {seconds:,.0f} s{said}. "
            "Run the statement again then; what was answered is kept"
        ) from None
