"""Several endpoints that serve one model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from quackllm.engine.providers.base import Capabilities
from quackllm.errors import ModelNotFound, ServerUnreachable

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Provider, Reply, Request
    from quackllm.engine.providers.config import ProviderConfig

Open = Callable[["ProviderConfig"], Awaitable["Provider"]]


class Replicas:
    """A `Provider` of members that give the same answers; the engine shares calls out.

    `endpoint` is the address that was named first, whoever answers: what is kept of answers
    does not depend on which of the servers are there today.
    """

    def __init__(self, endpoint: str, members: Sequence[Provider]) -> None:
        """Put members together; the first one speaks for all."""
        self.members = tuple(members)
        self._endpoint = endpoint

    @property
    def model(self) -> str:
        """Name of the model that all of them serve."""
        return self.members[0].model

    @property
    def endpoint(self) -> str:
        """The address that was named first."""
        return self._endpoint

    @property
    def capabilities(self) -> Capabilities:
        """What the first member can do."""
        return self.members[0].capabilities

    async def complete(self, request: Request) -> Reply:
        """Answer one request by the first member."""
        return await self.members[0].complete(request)

    async def aclose(self) -> None:
        """Close all members."""
        for member in self.members:
            await member.aclose()


def members_of(provider: Provider) -> tuple[Provider, ...]:
    """Return the endpoints behind a provider: itself, unless it has several."""
    return provider.members if isinstance(provider, Replicas) else (provider,)


async def open_replicas(config: ProviderConfig, open_one: Open) -> Provider:
    """Open what serves a model at `config.base_url` and at the addresses of `config.also`.

    One that cannot be reached is left out, and told of. Raises what opening one does:
    `ServerUnreachable` when none can be reached, and `ModelNotFound` when they do not
    serve the same model.
    """
    configs = (replace(config, also=()), *config.also)
    found = await asyncio.gather(*map(open_one, configs), return_exceptions=True)
    members = [one for one in found if not isinstance(one, BaseException)]
    failures = [one for one in found if isinstance(one, BaseException)]
    away = [failure for failure in failures if isinstance(failure, ServerUnreachable)]
    failure = next((one for one in failures if one not in away), None)
    if failure is None and not members:
        failure = away[0]
    names = {member.model for member in members}
    if failure is None and len(names) > 1:
        failure = ModelNotFound(
            "the addresses of llm_base_url serve different models, "
            f"{', '.join(sorted(names))}: choose one with SET llm_model = '...'"
        )
    if failure is not None:
        for member in members:
            await member.aclose()
        raise failure
    for one in away:
        config.notify(f"left out until the next connection: {one}")
    return Replicas(config.base_url or "", members)
