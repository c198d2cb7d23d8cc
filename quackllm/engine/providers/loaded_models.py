"""Models in the memory of this process, which the providers of one connection share.

A provider is opened anew for every combination of settings, such as another `llm_call_timeout`.
A model of gigabytes is not: it is loaded for the first provider that holds it and let go with
the last. Before another one is loaded, those that no running statement uses make room.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Sequence

    from quackllm.engine.providers.base import Provider
    from quackllm.engine.providers.config import ProviderConfig


class Loaded(Protocol):
    """A model in memory."""

    def close(self) -> None:
        """Free it, as soon as what it computes has ended. Called once, in any thread."""


T = TypeVar("T", bound=Loaded)


class Holders(Protocol):
    """The providers that may hold models, by what they were opened with."""

    def last_use(self, config: ProviderConfig) -> int:
        """Return a number that is larger for what was used later."""

    def take_idle(self, configs: Sequence[ProviderConfig]) -> list[Provider] | None:
        """Forget providers, to be closed; None, and nothing done, while one is in use."""


@dataclass(frozen=True)
class Hold(Generic[T]):
    """A model, which stays in memory until `release` is called, once."""

    model: T
    release: Callable[[], None]


@dataclass
class _Held:
    loading: asyncio.Task[Any]
    holders: list[ProviderConfig | None] = field(default_factory=list)
    unloaded: bool = False

    def release(self, holder: ProviderConfig | None) -> bool:
        """Take a holder away; tell whether it was the last one of a model to be freed."""
        self.holders.remove(holder)
        return not self.holders and not self.unloaded


class LoadedModels:
    """Models by what they were loaded from. Used in one event loop."""

    def __init__(self, holders: Holders | None = None) -> None:
        """Hold none yet; without `holders`, each stays until it is released."""
        self._held: dict[Hashable, _Held] = {}
        self._holders = holders

    async def hold(
        self,
        key: Hashable,
        load: Callable[[], Coroutine[None, None, T]],
        holder: ProviderConfig | None = None,
    ) -> Hold[T]:
        """Return the model of a key, loaded unless it is there already.

        holder: what the provider is opened with that asks, where it may be closed to make room.

        Those who ask while it is being loaded wait for the same; when the last of them is
        cancelled, so is loading. Raises what `load` does, and forgets the key then.
        """
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(asyncio.ensure_future(self._load(load, holder)))
        held.holders.append(holder)
        release = partial(self._release, key, held, holder)
        try:
            model: T = await asyncio.shield(held.loading)
        except BaseException:
            release()
            raise
        return Hold(model, release)

    def _release(self, key: Hashable, held: _Held, holder: ProviderConfig | None) -> None:
        """Let a model go that was held; it is closed when nobody else holds it."""
        if not held.release(holder):
            return
        del self._held[key]
        if not held.loading.done():
            held.loading.cancel()
        elif not held.loading.cancelled() and held.loading.exception() is None:
            held.loading.result().close()

    async def _load(
        self, load: Callable[[], Coroutine[None, None, T]], holder: ProviderConfig | None
    ) -> T:
        if holder is not None and self._holders is not None:
            await self._make_room(holder, self._holders)
        return await load()

    async def _make_room(self, holder: ProviderConfig, holders: Holders) -> None:
        """Unload what was used least recently, while there are too many of the kind."""
        alike = {
            key: [config for config in held.holders if config is not None]
            for key, held in self._held.items()
            if all(config is not None and config.embeds == holder.embeds for config in held.holders)
        }
        by_use = sorted(alike, key=lambda key: max(map(holders.last_use, alike[key])))
        surplus = len(alike) - holder.max_loaded_models
        for key in by_use:
            if surplus <= 0:
                return
            held = self._held.get(key)
            if held is None or not held.loading.done():
                continue
            providers = holders.take_idle(alike[key])
            if providers is not None:
                surplus -= 1
                del self._held[key]
                held.unloaded = True
                # A statement that is interrupted meanwhile leaves nothing half closed.
                await asyncio.shield(_close(held.loading.result(), providers))


async def _close(model: Loaded, providers: Sequence[Provider]) -> None:
    for provider in providers:
        await provider.aclose()
    # What a statement that was interrupted had begun takes its time to end.
    await asyncio.to_thread(model.close)
