"""Turns of calls: first come, first served, under a limit that moves."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Slots:
    """A semaphore whose limit is asked for at every turn. For one event loop."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self._taken

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._queue)

    async def acquire(self) -> Turn:
        """Wait for a slot and take it."""
        turn = Turn(self)
        await turn.resume()
        return turn

    def try_acquire(self) -> Turn | None:
        """Take a slot that is free and that nobody waits for, None without one."""
        if self._queue or self._taken >= self._limit():
            return None
        self._taken += 1
        return Turn(self, held=True)

    async def take(self) -> None:
        """Wait for a slot, in the order of asking."""
        if not self._queue and self._taken < self._limit():
            self._taken += 1
            return
        granted = asyncio.get_running_loop().create_future()
        self._queue.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give_back()  # it was granted in the moment of the cancellation
            elif granted in self._queue:
                self._queue.remove(granted)
            raise

    def give_back(self) -> None:
        """Free a slot; whoever waits longest gets it, and others if the limit rose."""
        self._taken -= 1
        while self._queue and self._taken < self._limit():
            granted = self._queue.popleft()
            if not granted.done():
                granted.set_result(None)
                self._taken += 1


class Turn:
    """One call's slot: held, or given back for a while or for good."""

    __slots__ = ("_held", "_slots")

    def __init__(self, slots: Slots, *, held: bool = False) -> None:
        self._slots = slots
        self._held = held

    async def resume(self) -> None:
        """Wait for a slot, if none is held."""
        if not self._held:
            await self._slots.take()
            self._held = True

    def release(self) -> None:
        """Give the slot back. May be called any number of times."""
        if self._held:
            self._held = False
            self._slots.give_back()
