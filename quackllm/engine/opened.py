"""The providers that are in use: each is opened once, and whoever waits for it may leave."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING

from quackllm.engine.providers.base import Replaceable
from quackllm.engine.providers.replicas import members_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from quackllm.engine.providers.base import Provider
    from quackllm.engine.providers.config import ProviderConfig


class OpenedProviders:
    """Providers by what they are opened with.

    Iterated over and looked up from any thread; opened in one event loop.
    """

    def __init__(self, open_: Callable[[ProviderConfig], Awaitable[Provider]]) -> None:
        """Have none yet; `open_` opens one, and raises what `Engine.provider` does."""
        self._open = open_
        self._opened: dict[ProviderConfig, Provider] = {}
        self._replaced: list[Provider] = []
        self._opening: dict[ProviderConfig, asyncio.Task[Provider]] = {}
        self._waiting: Counter[ProviderConfig] = Counter()
        self._users: dict[ProviderConfig, set[str]] = {}
        self._last_use: dict[ProviderConfig, int] = {}
        self._uses = count(1)
        self._lock = Lock()

    def __iter__(self) -> Iterator[tuple[ProviderConfig, Provider]]:
        """Go through those that are open now."""
        return iter(list(self._opened.items()))

    def find(self, config: ProviderConfig, user: str | None = None) -> Provider | None:
        """Return a provider that is open already.

        user: who uses it, or what is opened next, and wants it to stay until `leave`.
        """
        with self._lock:
            if user is not None:
                self._users.setdefault(config, set()).add(user)
                self._last_use[config] = next(self._uses)
            found = self._opened.get(config)
            if found is None or not _is_replaced(found):
                return found
            # Other statements may still have calls on their way there.
            self._replaced.append(self._opened.pop(config))
            return None

    def leave(self, user: str) -> None:
        """Take note that a user needs nothing any more."""
        with self._lock:
            for users in self._users.values():
                users.discard(user)

    def last_use(self, config: ProviderConfig) -> int:
        """Return a number that is larger for what was used later."""
        return self._last_use.get(config, 0)

    def take_idle(self, configs: Sequence[ProviderConfig]) -> list[Provider] | None:
        """Forget providers, to be closed; None, and nothing done, while one is in use."""
        with self._lock:
            if any(self._users.get(each) or each not in self._opened for each in configs):
                return None
            return [self._opened.pop(each) for each in configs]

    async def get(self, config: ProviderConfig) -> Provider:
        """Return a provider, opened if it is not yet.

        Statements that need the same one share the opening; it is cancelled when the last
        of them is.
        """
        found = self._opened.get(config)
        if found is not None:
            return found
        task = self._opening.get(config)
        if task is None:
            task = self._opening[config] = asyncio.ensure_future(self._open_one(config))
        self._waiting[config] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[config] -= 1
            if not self._waiting[config]:
                del self._waiting[config], self._opening[config]
                task.cancel()

    def take_all(self) -> list[Provider]:
        """Forget all of them; return them, to be closed."""
        opened, self._opened = list(self._opened.values()), {}
        replaced, self._replaced = self._replaced, []
        return opened + replaced

    async def _open_one(self, config: ProviderConfig) -> Provider:
        provider = self._opened[config] = await self._open(config)
        return provider


def _is_replaced(provider: Provider) -> bool:
    """Whether a server behind a provider serves another model than when it was opened."""
    return any(isinstance(one, Replaceable) and one.replaced for one in members_of(provider))
