"""One round of questions by way of the provider's batch API: hours, at a lower price.

A batch is recorded beside the answers before it is sent, so that a statement which is run
again after its process was killed collects the batch and sends only what is not in it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from quackllm.engine.cache.batches import SentBatch
from quackllm.engine.dispatch import Outcome
from quackllm.engine.providers.base import Usage
from quackllm.engine.providers.openai_batches import unanswered
from quackllm.engine.task_group import task_group
from quackllm.errors import CallError, ProviderError, RequestRefused, ServerUnreachable
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN

if TYPE_CHECKING:
    from quackllm.engine.budget import Budget
    from quackllm.engine.cache.batches import BatchRecords
    from quackllm.engine.providers.base import Request
    from quackllm.engine.providers.openai_batches import BatchStatus, OpenAIBatches
    from quackllm.optimizer.cost import Price

MOST_LINES = 50_000
MOST_BYTES = 100_000_000
"""OpenAI takes 50,000 requests and 200 MB per batch."""

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.5, 30.0, 1.5
"""Seconds between two looks at a batch: at first, at most, and how they grow."""

_CANCEL_SECONDS = 5.0

_T = TypeVar("_T")

Requests = Callable[[Iterable[int]], Iterator[tuple[int, "Request"]]]


@dataclass(frozen=True)
class Ways:
    """What a round needs of the engine.

    requests: makes (position, request) pairs, as far as the budget goes.
    deliver, parse: as `dispatch` takes them.
    is_interrupted: whether the person has ended the statement.
    patience: seconds that the server may be away. notify: takes one line for the person.
    """

    requests: Requests
    deliver: Callable[[int, Outcome], None]
    parse: Callable[[str], str | None]
    notify: Callable[[str], None]
    is_interrupted: Callable[[], bool]
    patience: float


class ProviderBatch:
    """Sends positions of a round as batches, waits for them, and delivers their answers."""

    def __init__(
        self,
        batches: OpenAIBatches,
        records: BatchRecords,
        question: bytes,
        ways: Ways,
        budget: Budget,
        price: Price | None,
    ) -> None:
        """Use a batch API; question: digest of what the rows have in common."""
        self._batches = batches
        self._records = records
        self._question = question
        self._ways = ways
        self._budget = budget
        self._price = price
        self._open: dict[bytes, tuple[int, Request]] = {}

    async def send(self, positions: Mapping[bytes, int]) -> None:
        """Have every position answered, as far as the budget goes; by digests of their keys.

        Raises what stops a statement; a batch that runs then can be collected later.
        """
        keys = {position: key for key, position in positions.items()}
        earlier = await self._earlier(positions)
        covered = {positions[k] for batch in earlier for k in batch.keys if k in positions}
        for position, request in self._ways.requests(covered):
            self._open[keys[position]] = position, request
        for batch in earlier:
            await self._collect(batch)
        left = [position for position in keys if position not in covered]
        while True:
            # What earlier batches have not answered is counted, and sent once more.
            waiting = chain(list(self._open), self._counted(left, keys))
            chunks = list(self._chunks(waiting))
            if not chunks:
                return
            left = [position for position in left if keys[position] not in self._open]
            async with task_group() as group:
                for chunk in chunks:
                    group.create_task(self._see_through(chunk))
            self._budget.release()

    async def _earlier(self, wanted: Mapping[bytes, int]) -> list[SentBatch]:
        """Return the batches that were sent before and have some of the keys."""
        found = []
        for batch in self._records.find(self._question):
            if wanted.keys().isdisjoint(batch.keys):
                continue
            name = batch.id or await self._patiently(self._batches.find, batch.tag)
            if name is None:  # the process ended before it had sent it
                self._records.leave(batch.tag, frozenset())
            else:
                found.append(replace(batch, id=name))
        return found

    def _counted(self, positions: Iterable[int], keys: Mapping[int, bytes]) -> Iterator[bytes]:
        """Make requests as far as the budget goes, what they may cost set aside; yield keys."""
        for position, request in self._ways.requests(positions):
            characters = len(request.instruction) + len(request.fields)
            tokens = int(characters / CHARS_PER_TOKEN), request.max_tokens
            dollars = 0.0 if self._price is None else self._price.dollars(tokens[0], 0, tokens[1])
            self._budget.reserve(sum(tokens), dollars)
            self._open[keys[position]] = position, request
            yield keys[position]

    def _chunks(self, keys: Iterable[bytes]) -> Iterator[dict[bytes, bytes]]:
        """Yield the lines of one batch after the other, by key."""
        lines: dict[bytes, bytes] = {}
        size = 0
        for key in keys:
            line = self._batches.line(key.hex(), self._open[key][1])
            if len(lines) == MOST_LINES or size + len(line) > MOST_BYTES:
                yield lines
                lines, size = {}, 0
            lines[key] = line
            size += len(line)
        if lines:
            yield lines

    async def _see_through(self, lines: Mapping[bytes, bytes]) -> None:
        """Send a batch of ours and collect it; what it has not answered has failed."""
        batch = await self._submit(lines)
        status = await self._collect(batch)
        if status is not None and status.state == "failed":
            raise RequestRefused(f"the batch {batch.id} was refused: {status.said}")
        for key in batch.keys & self._open.keys():
            self._fail(key, unanswered(batch.id or "", "lost" if status is None else status.state))

    async def _submit(self, lines: Mapping[bytes, bytes]) -> SentBatch:
        tag = secrets.token_hex(8)
        self._records.begin(tag, self._question, lines)
        try:
            name = await self._batches.create(list(lines.values()), tag)
        except ProviderError:  # it was refused, so nothing runs
            self._records.leave(tag, frozenset())
            raise
        except CallError as error:
            raise ServerUnreachable(f"the batch could not be sent: {error}") from None
        except asyncio.CancelledError:
            await self._give_up(SentBatch(tag, None, frozenset()))
            raise
        self._records.name(tag, name)
        self._ways.notify(
            f"batch {name} of {len(lines):,} calls was sent; its answers may take hours. "
            "Interrupting the statement cancels it; where the process ends, run the statement again"
        )
        return SentBatch(tag, name, frozenset(lines))

    async def _collect(self, batch: SentBatch) -> BatchStatus | None:
        """Wait for a batch and deliver what it has; None for one that is not known any more."""
        status = await self._ended(batch)
        lines = {} if status is None else await self._patiently(self._batches.results, status)
        by_key = {key: lines[key.hex()] for key in batch.keys if key.hex() in lines}
        left = set(by_key)
        try:
            for key in by_key.keys() & self._open.keys():
                left.discard(key)
                self._deliver(key, by_key[key])
        finally:  # answers that this statement does not need, or has not come to, wait for another
            self._records.leave(batch.tag, frozenset(left))
        return status

    async def _ended(self, batch: SentBatch) -> BatchStatus | None:
        """Wait for the end of a batch; None for one that is not known any more."""
        assert batch.id is not None
        pause = FIRST_PAUSE
        try:
            while True:
                status = await self._patiently(self._batches.status, batch.id)
                if status is None or status.has_ended:
                    return status
                await asyncio.sleep(pause)
                pause = min(pause * GROWTH, LONGEST_PAUSE)
        except asyncio.CancelledError:
            await self._give_up(batch)
            raise

    async def _give_up(self, batch: SentBatch) -> None:
        """Cancel a batch if it is the person who ends the statement; its record stays."""
        if not self._ways.is_interrupted():
            return
        with suppress(CallError, ProviderError, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                name = batch.id or await self._batches.find(batch.tag)
                if name is not None:
                    await self._batches.cancel(name)

    async def _patiently(self, ask: Callable[[Any], Awaitable[_T]], about: object) -> _T:
        """Ask the server, again while it is away."""
        until = time.monotonic() + self._ways.patience
        while True:
            try:
                return await ask(about)
            except CallError as error:
                if time.monotonic() > until:
                    raise ServerUnreachable(
                        f"{error}. Batches that were sent go on: run the statement again"
                    ) from None
            await asyncio.sleep(FIRST_PAUSE)

    def _deliver(self, key: bytes, line: Mapping[str, Any]) -> None:
        usage = Usage()
        try:
            reply = self._batches.reply(line, self._open[key][1])
            usage = reply.usage
            answer = self._ways.parse(reply.text)
        except CallError as error:
            self._fail(key, error, usage)
        else:
            position, _ = self._open.pop(key)
            self._ways.deliver(position, Outcome(answer, None, usage, 1, 0, 0.0))

    def _fail(self, key: bytes, error: CallError, usage: Usage | None = None) -> None:
        position, _ = self._open.pop(key)
        self._ways.deliver(position, Outcome(None, error, usage or Usage(), 1, 0, 0.0))
