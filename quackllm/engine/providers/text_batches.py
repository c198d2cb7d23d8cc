"""Texts to be embedded, put together to requests of many.

The engine makes one call per text, so that each is remembered, retried and accounted for
by itself. Calls that are in flight together become one request here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from quackllm.engine.providers.base import Reply, Request, Usage
from quackllm.errors import CallError
from quackllm.udfs.base import Embedding

Send = Callable[[Sequence[str], int], Awaitable[Sequence[Reply]]]
"""Embeds texts, as vectors of so many dimensions: one reply per text, in their order."""

LINGER_SECONDS = 0.002
"""How long a request waits for further texts. Those of a large stage are there at once."""


@dataclass(slots=True)
class _Batch:
    """Texts of one request, and who waits for each."""

    texts: list[str] = field(default_factory=list)
    waiting: list[asyncio.Future[Reply]] = field(default_factory=list)
    is_full: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def give_up(self) -> None:
        """Cancel the request once nobody waits for it any more."""
        if self.task is not None and all(future.done() for future in self.waiting):
            self.task.cancel()


class TextBatches:
    """Makes requests of the texts of concurrent calls, all of one event loop."""

    def __init__(self, send: Send, most: int) -> None:
        """Make requests of at most `most` texts through `send`.

        send: a `CallError` that it raises is that of each text; anything else stops all.
        """
        self._send = send
        self._most = most
        self._open: dict[int, _Batch] = {}

    async def embed(self, text: str, dimensions: int) -> Reply:
        """Return the reply for one text. Raises what sending it has raised."""
        batch = self._open.get(dimensions)
        if batch is None:
            batch = self._open[dimensions] = _Batch()
            batch.task = asyncio.create_task(self._run(batch, dimensions))
            batch.task.add_done_callback(partial(_end, batch))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        batch.texts.append(text)
        batch.waiting.append(future)
        if len(batch.texts) >= self._most:
            del self._open[dimensions]
            batch.is_full.set()
        try:
            return await future
        except asyncio.CancelledError:
            batch.give_up()
            raise

    async def _run(self, batch: _Batch, dimensions: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await batch.is_full.wait()
        if self._open.get(dimensions) is batch:
            del self._open[dimensions]
        await self._settle(batch.texts, batch.waiting, dimensions)

    async def _settle(
        self, texts: Sequence[str], waiting: Sequence[asyncio.Future[Reply]], dimensions: int
    ) -> None:
        """Send texts and hand the replies out.

        A request that is refused for good may be so for one of its texts: it is sent again
        in halves, until what is refused stands alone.
        """
        try:
            replies = await self._send(texts, dimensions)
        except CallError as error:
            if error.trouble is None and len(texts) > 1:
                half = len(texts) // 2
                await asyncio.gather(
                    self._settle(texts[:half], waiting[:half], dimensions),
                    self._settle(texts[half:], waiting[half:], dimensions),
                )
                return
            for future in waiting:
                if not future.done():
                    future.set_exception(copy(error))  # the engine notes in it what befell a row
        else:
            for future, reply in zip(waiting, replies, strict=True):
                if not future.done():
                    future.set_result(reply)


def _end(batch: _Batch, task: asyncio.Task[None]) -> None:
    """Tell those who still wait how the request ended: cancelled, or with an error for all."""
    for future in batch.waiting:
        if future.done():
            continue
        error = None if task.cancelled() else task.exception()
        if error is None:
            future.cancel()
        else:
            future.set_exception(error)


def wanted(request: Request) -> tuple[str, int]:
    """Return what a request asks for: its text, and how many dimensions."""
    form = request.answer
    assert isinstance(form, Embedding) and form.dimensions is not None
    return text_of(request.fields), form.dimensions


def text_of(rendered: str) -> str:
    """Return the text to embed of rendered fields.

    A value that is no text is embedded as JSON writes it; of several fields, in whatever
    order they come, each is a line of its name and value, in the order of names.
    """
    fields = json.loads(rendered)
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in sorted(fields.items())
    }
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"{name}: {text}" for name, text in texts.items())


def shared_usage(usage: Usage, texts: Sequence[str]) -> list[Usage]:
    """Divide the tokens of a request among its texts, by their lengths."""
    lengths = [len(text) + 1 for text in texts]
    shares, whole, given = [], sum(lengths), 0
    for until in accumulate(lengths):
        tokens = usage.prompt_tokens * until // whole - given
        given += tokens
        shares.append(Usage(prompt_tokens=tokens))
    return shares
