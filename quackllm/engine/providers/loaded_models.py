"""Models in the memory of this process, which the providers of one connection share.

A provider is opened anew for every combination of settings, such as another `llm_call_timeout`.
A model of gigabytes is not: it is loaded for the first provider that holds it and let go with
the last.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable


class Loaded(Protocol):
    """A model in memory."""

    def close(self) -> None:
        """Free it. Called once."""


@dataclass
class _Held:
    loading: asyncio.Task[Any]
    holders: int = 0


class LoadedModels:
    """Models by what they were loaded from. Used in one event loop."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._held: dict[Hashable, _Held] = {}

    async def hold(self, key: Hashable, load: Callable[[], Coroutine[Any, Any, Loaded]]) -> Any:
        """Return the model of a key, loaded unless it is there already.

        Those who ask while it is being loaded wait for the same; when the last of them is
        cancelled, so is loading. Raises what `load` does, and forgets the key then.
        """
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(asyncio.ensure_future(load()))
        held.holders += 1
        try:
            return await asyncio.shield(held.loading)
        except BaseException:
            self.release(key)
            raise

    def release(self, key: Hashable) -> None:
        """Let a model go that was held once; it is closed when nobody else holds it."""
        held = self._held[key]
        held.holders -= 1
        if held.holders:
            return
        del self._held[key]
        if not held.loading.done():
            held.loading.cancel()
        elif not held.loading.cancelled() and held.loading.exception() is None:
            held.loading.result().close()
