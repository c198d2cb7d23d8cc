"""One round of calls over the endpoints that serve a model: one, or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from quackllm.engine.dispatch import Outcome, dispatch
from quackllm.engine.task_group import task_group
from quackllm.errors import ServerUnreachable

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Provider, Request
    from quackllm.engine.shares import Shares
    from quackllm.engine.traffic.endpoint import Endpoint, Limits

FAILOVER_SECONDS = 3.0
"""How long an endpoint may be away before others take over what it has not answered."""


class Members:
    """Who sends the calls of one round, and who takes over when one goes away."""

    def __init__(
        self,
        providers: Sequence[Provider],
        endpoints: Sequence[Endpoint],
        shares: Shares,
        *,
        requests: Callable[[Iterable[int]], Iterator[tuple[int, Request]]],
        deliver: Callable[[int, Outcome], None],
        parse: Callable[[str], str | None],
        may_send_another: Callable[[], bool],
        limits: Limits,
        notify: Callable[[str], None],
    ) -> None:
        """Make a round; everything but `requests` is as `dispatch` takes it.

        requests: makes (position, request) pairs of positions in the sending order.
        notify: takes one line for the person.
        """
        self._providers = providers
        self._endpoints = endpoints
        self._shares = shares
        self._requests = requests
        self._deliver = deliver
        self._parse = parse
        self._may_send_another = may_send_another
        self._limits = limits
        self._notify = notify

    def __len__(self) -> int:
        return len(self._providers)

    @property
    def turns(self) -> Sequence[Iterator[int]]:
        """What each member is to send first."""
        return self._shares.turns

    async def send(self, turns: Sequence[Iterator[int]]) -> None:
        """Send what there is; `turns` yields for each member the positions that it sends first.

        Raises what `dispatch` does; `ServerUnreachable` when no member is left.
        """
        self._shares.begin(turns)
        while True:
            async with task_group() as group:
                for member in sorted(self._shares.alive):
                    group.create_task(self._send_by(member))
            # A member that was lost after the others had ended leaves its work to them.
            if not self._shares.returned:
                return

    async def _send_by(self, member: int) -> None:
        """Send what one member is to send; if it goes away, leave that to the others."""
        shares, provider = self._shares, self._providers[member]

        def deliver(position: int, outcome: Outcome) -> None:
            shares.answered(member, position)
            self._deliver(position, outcome)

        while True:
            is_last = shares.alive == {member}
            try:
                await dispatch(
                    provider,
                    self._requests(shares.sent_by(member)),
                    endpoint=self._endpoints[member],
                    deliver=deliver,
                    parse=self._parse,
                    may_send_another=self._may_send_another,
                    limits=self._limits if is_last else self._impatient(),
                )
            except ServerUnreachable:
                if is_last:
                    raise
                if shares.alive != {member}:
                    shares.lose(member)
                    self._notify(f"{provider.endpoint} is away: the others take its calls over")
                    return
                shares.give_back(member)  # it is the last one by now: worth waiting for
            else:
                # While its last calls ran, another one may have come to have too much.
                if not shares.has_more:
                    return

    def _impatient(self) -> Limits:
        wait = min(self._limits.reconnect_timeout, FAILOVER_SECONDS)
        return replace(self._limits, reconnect_timeout=wait)
