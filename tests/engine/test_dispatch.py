"""Dispatch: in order, bounded, lazily, and all or nothing when a statement has to stop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from quackllm.engine.dispatch import Outcome, dispatch
from quackllm.engine.providers.base import Request
from quackllm.engine.traffic.endpoint import Endpoint
from quackllm.errors import CallTimedOut, ServerFailed, ServerUnreachable
from quackllm.testing import FakeProvider, Fault
from quackllm.udfs.base import Choice

if TYPE_CHECKING:
    from collections.abc import Iterator


def requests(count: int, rendered: list[int] | None = None) -> Iterator[tuple[int, Request]]:
    for number in range(count):
        if rendered is not None:
            rendered.append(number)
        yield number, Request("Is it even?", f'{{"n": {number}}}', Choice(("yes", "no")), 0.0, 2)


def run(provider: FakeProvider, count: int, concurrency: int = 4) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    asyncio.run(
        dispatch(
            provider, requests(count), endpoint=Endpoint(concurrency), deliver=outcomes.__setitem__
        )
    )
    return outcomes


def test_every_request_has_one_outcome_and_is_sent_in_the_order_given() -> None:
    provider = FakeProvider(latency=0.001)
    outcomes = run(provider, 50)
    assert sorted(outcomes) == list(range(50))
    assert [request.fields for request in provider.requests] == [
        request.fields for _, request in requests(50)
    ]
    assert all(outcome.answer and outcome.seconds >= 0.001 for outcome in outcomes.values())


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_no_more_calls_are_in_flight_than_asked_for(concurrency: int) -> None:
    provider = FakeProvider(latency=0.001)
    run(provider, 40, concurrency)
    assert provider.most_in_flight == concurrency


def test_nothing_to_send_is_no_call() -> None:
    assert run(FakeProvider(), 0) == {}


def test_concurrency_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrency is 0"):
        run(FakeProvider(), 1, 0)


def test_prompts_are_rendered_only_when_there_is_a_place_to_send_them() -> None:
    rendered: list[int] = []
    ahead: list[int] = []

    def deliver(index: int, outcome: Outcome) -> None:
        ahead.append(len(rendered) - index)

    asyncio.run(
        dispatch(
            FakeProvider(latency=0.001),
            requests(60, rendered),
            endpoint=Endpoint(4),
            deliver=deliver,
        )
    )
    assert max(ahead) <= 2 * 4


def test_a_failed_call_is_the_outcome_of_its_row_and_stops_nothing() -> None:
    provider = FakeProvider(faults=[Fault(CallTimedOut, containing='"n": 7}')])
    outcomes = run(provider, 20)
    assert isinstance(outcomes[7].error, CallTimedOut)
    assert outcomes[7].answer is None
    assert [index for index, outcome in outcomes.items() if outcome.error] == [7]


def test_a_provider_error_stops_the_statement_with_its_cause_and_nothing_more_is_sent() -> None:
    refused = ConnectionRefusedError("nothing listens")

    def answer(request: Request) -> str:
        if request.fields == '{"n": 5}':
            raise ServerUnreachable("no server") from refused
        return "yes"

    provider = FakeProvider(answer=answer, latency=0.002)
    with pytest.raises(ServerUnreachable, match="no server") as caught:
        run(provider, 1000)
    assert caught.value.__cause__ is refused
    assert provider.calls <= 5 + 2 * 4
    assert provider.in_flight == 0


def test_an_error_of_the_consumer_stops_the_statement_too() -> None:
    provider = FakeProvider(latency=0.001)

    def deliver(index: int, outcome: Outcome) -> None:
        raise OverflowError(index)

    with pytest.raises(OverflowError):
        asyncio.run(dispatch(provider, requests(100), endpoint=Endpoint(2), deliver=deliver))
    assert provider.in_flight == 0
    assert provider.calls <= 4


@pytest.mark.parametrize("latency", [0.0, 0.05], ids=["never suspends", "waits"])
def test_cancelling_ends_the_calls_in_flight_before_it_returns(latency: float) -> None:
    provider = FakeProvider(latency=latency)
    delivered: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(
            dispatch(
                provider,
                requests(10_000_000),
                endpoint=Endpoint(8),
                deliver=lambda index, _: delivered.append(index),
            )
        )
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert provider.in_flight == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 2


def test_the_event_loop_gets_turns_while_a_provider_never_suspends() -> None:
    async def main() -> int:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        await dispatch(
            FakeProvider(), requests(20_000), endpoint=Endpoint(16), deliver=lambda *_: None
        )
        ticking.cancel()
        return turns

    assert asyncio.run(main()) > 5


def test_tasks_number_the_calls_in_flight_and_not_the_requests() -> None:
    most = 0

    def deliver(index: int, outcome: Outcome) -> None:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))

    provider = FakeProvider(faults=[Fault(ServerFailed, rate=0.5)])
    asyncio.run(dispatch(provider, requests(500), endpoint=Endpoint(6), deliver=deliver))
    assert most <= 6 + 1
