"""Retries, limits and outages, against a real local server that fails like real ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from quackllm.engine.dispatch import Outcome, dispatch
from quackllm.engine.providers.base import Request
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.openai_compatible import OpenAICompatible, open_openai_compatible
from quackllm.engine.traffic import retry
from quackllm.engine.traffic.endpoint import Endpoint, Limits
from quackllm.errors import (
    AuthenticationFailed,
    CallTimedOut,
    ContextWindowExceeded,
    InvalidAnswer,
    RateLimited,
    RequestRefused,
    ServerFailed,
    ServerUnreachable,
)
from quackllm.testing import FakeServer, HttpFault
from quackllm.udfs.answers import read_true_false
from quackllm.udfs.base import Choice

REQUEST = Request("Is it good?", "{}", Choice(("true", "false")), 0.0, 8)
QUICK = Limits(max_retries=2)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff in hundredths of a second: what is tested is whether, not how long."""
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.02)


def opened(
    server: FakeServer, action: Callable[[OpenAICompatible], Awaitable[Any]], **config: Any
) -> Any:
    async def main() -> Any:
        told = {"base_url": server.base_url, "timeout": 5.0, **config}
        provider = await open_openai_compatible(ProviderConfig(**told))
        try:
            return await action(provider)
        finally:
            await provider.aclose()

    return asyncio.run(main())


def rows(count: int) -> list[tuple[int, Request]]:
    return [
        (n, Request(REQUEST.instruction, f'{{"n": {n}}}', REQUEST.answer, 0.0, 8))
        for n in range(count)
    ]


def send(
    server: FakeServer,
    count: int = 1,
    *,
    limits: Limits = QUICK,
    endpoint: Endpoint | None = None,
    concurrency: int = 4,
    **config: Any,
) -> dict[int, Outcome]:
    """Dispatch some requests; return their outcomes."""
    outcomes: dict[int, Outcome] = {}

    async def action(provider: OpenAICompatible) -> None:
        await dispatch(
            provider,
            rows(count),
            endpoint=endpoint or Endpoint(concurrency),
            deliver=outcomes.__setitem__,
            parse=read_true_false,
            limits=limits,
        )

    opened(server, action, **config)
    return outcomes


@pytest.mark.parametrize(
    "fault",
    [
        HttpFault.failing(408, times=2),
        HttpFault.failing(409, times=2),
        HttpFault.rate_limited(times=2),
        HttpFault.failing(500, times=2),
        HttpFault.failing(503, times=2),
        HttpFault.reset(times=2),
        HttpFault.truncated_json(times=2),
        HttpFault.wrong_shape(times=2),
        HttpFault.no_choices(times=2),
        HttpFault.duplicate_choices(times=2),
        HttpFault.tls_failure(times=2),
        HttpFault.dns_failure(times=2),
    ],
    ids=["408", "409", "429", "500", "503", "reset", "truncated", "shape", "no choices",
         "two choices", "tls", "dns"],
)  # fmt: skip
def test_what_another_try_can_help_is_tried_again(fault: HttpFault) -> None:
    with FakeServer(faults=[fault]) as server:
        [outcome] = send(server, follow_redirects=fault.redirect is not None).values()
        assert outcome.error is None
        assert server.calls == 3
    assert (outcome.calls, outcome.retries) == (1, 0 if fault.redirect else 2)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (HttpFault.failing(400, "odd value"), ServerFailed),
        (HttpFault.failing(401), AuthenticationFailed),
        (HttpFault.failing(403), AuthenticationFailed),
        (HttpFault.failing(404), Exception),
        (HttpFault.context_exceeded(), ContextWindowExceeded),
        (HttpFault.refusal(), InvalidAnswer),
    ],
    ids=["400", "401", "403", "404", "too long", "refusal"],
)
def test_what_no_try_can_help_is_sent_once(fault: HttpFault, error: type[Exception]) -> None:
    with FakeServer(faults=[fault]) as server:
        try:
            [outcome] = send(server).values()
        except error:
            pass
        else:
            assert type(outcome.error) is error
        assert server.calls == 1


def test_tries_end_with_the_number_that_is_set_and_the_error_says_how_many_there_were() -> None:
    with FakeServer(faults=[HttpFault.failing(500)]) as server:
        [outcome] = send(server).values()
        assert server.calls == 3
    assert isinstance(outcome.error, ServerFailed)
    assert (outcome.error.attempts, outcome.error.status) == (3, 500)
    assert outcome.retries == 2


def test_a_call_that_gets_no_answer_in_time_is_made_twice_at_most() -> None:
    with FakeServer(faults=[HttpFault.hanging()]) as server:
        [outcome] = send(server, timeout=0.2, limits=Limits(max_retries=4)).values()
        assert server.calls == 2
    assert isinstance(outcome.error, CallTimedOut)


def test_a_hang_that_passes_is_survived() -> None:
    with FakeServer(faults=[HttpFault.hanging(times=1)]) as server:
        [outcome] = send(server, timeout=0.2).values()
    assert outcome.error is None


def test_a_slow_drip_is_an_answer_when_it_ends_in_time_and_a_timeout_when_not() -> None:
    with FakeServer(faults=[HttpFault.slow_drip(0.3)]) as server:
        [outcome] = send(server).values()
        assert outcome.answer in ("true", "false")
        [outcome] = send(server, timeout=0.1).values()
        assert isinstance(outcome.error, CallTimedOut)


@pytest.mark.parametrize("as_date", [False, True])
def test_the_pause_that_the_server_names_is_kept(as_date: bool) -> None:
    seconds = 2.0 if as_date else 0.7  # dates are in whole seconds
    fault = HttpFault.rate_limited(seconds, as_date=as_date, times=1)
    with FakeServer(faults=[fault]) as server:
        began = time.monotonic()
        [outcome] = send(server).values()
    assert outcome.error is None
    assert time.monotonic() - began >= seconds - 1.0 * as_date - 0.05


def test_a_pause_of_many_minutes_stops_the_statement_and_says_so() -> None:
    with (
        FakeServer(faults=[HttpFault.rate_limited(72_000)]) as server,
        pytest.raises(RateLimited, match="72,000 s"),
    ):
        send(server)


def test_while_one_call_pauses_others_are_sent() -> None:
    fault = HttpFault.rate_limited(1.0, containing='"n": 0}', times=1)
    ended: list[int] = []
    with FakeServer(faults=[fault]) as server:

        async def action(provider: OpenAICompatible) -> None:
            await dispatch(
                provider,
                rows(30),
                endpoint=Endpoint(1),
                deliver=lambda index, _: ended.append(index),
                limits=QUICK,
            )

        opened(server, action)
    assert ended.index(0) == 29


# Answers that cannot be read


def said(*answers: str) -> Callable[[Request], str]:
    """Answer with one text after the other."""
    left = iter(answers)
    return lambda _: next(left)


def test_an_answer_that_cannot_be_read_is_shown_to_the_model_with_the_cause() -> None:
    with FakeServer(flavor="unconstrained", answer=said("perhaps", "true")) as server:
        [outcome] = send(server).values()
        first, second = server.received[-2].body["messages"], server.received[-1].body["messages"]
    assert (outcome.answer, outcome.error, outcome.calls) == ("true", None, 2)
    assert second[: len(first)] == first, "the prefix that the server has in its cache"
    assert second[2] == {"role": "assistant", "content": "perhaps"}
    assert "perhaps" in second[3]["content"] or "true" in second[3]["content"]
    assert outcome.usage.completion_tokens >= 2, "both answers are counted"


@pytest.mark.parametrize(
    "fault",
    [HttpFault.empty_answer(), HttpFault.wrong_language(), HttpFault.wrong_schema()],
    ids=["empty", "language", "schema"],
)
def test_a_second_answer_that_cannot_be_read_is_a_failure(fault: HttpFault) -> None:
    with FakeServer(faults=[fault]) as server:
        [outcome] = send(server).values()
        assert server.calls == 2
    assert isinstance(outcome.error, InvalidAnswer)
    assert (outcome.answer, outcome.calls, outcome.retries) == (None, 2, 0)


def test_without_retries_nothing_is_asked_again() -> None:
    with FakeServer(faults=[HttpFault.wrong_language()]) as server:
        [outcome] = send(server, limits=Limits(max_retries=0)).values()
        assert server.calls == 1
    assert isinstance(outcome.error, InvalidAnswer)


# Outages


def restarted(server: FakeServer, seconds: float) -> threading.Thread:
    """Stop a server and start it again on its port some seconds later."""

    def run() -> None:
        server.close()
        time.sleep(seconds)
        server.reopen()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_server_that_restarts_is_waited_for_and_no_row_is_lost() -> None:
    told: list[str] = []
    with FakeServer(latency=0.01) as server:
        outcomes: dict[int, Outcome] = {}
        restart: list[threading.Thread] = []

        def deliver(index: int, outcome: Outcome) -> None:
            outcomes[index] = outcome
            if len(outcomes) == 50:
                restart.append(restarted(server, 2.5))

        async def action(provider: OpenAICompatible) -> None:
            await dispatch(
                provider,
                rows(200),
                endpoint=Endpoint(16, notify=told.append),
                deliver=deliver,
                limits=Limits(),
            )

        opened(server, action)
        restart[0].join()
    assert [outcome.error for outcome in outcomes.values()] == [None] * 200
    assert len(told) == 1
    assert "waiting up to 30 s" in told[0]


def test_a_server_that_dies_stops_the_statement_within_the_time_that_is_set() -> None:
    server = FakeServer(latency=0.01).__enter__()
    delivered: list[int] = []

    def deliver(index: int, _: Outcome) -> None:
        delivered.append(index)
        if len(delivered) == 20:
            threading.Thread(target=server.close).start()

    async def action(provider: OpenAICompatible) -> None:
        await dispatch(
            provider,
            rows(100_000),
            endpoint=Endpoint(8),
            deliver=deliver,
            limits=Limits(reconnect_timeout=1.0),
        )

    began = time.monotonic()
    with pytest.raises(ServerUnreachable, match=r"nothing listens.*llm_reconnect_timeout is 1 s"):
        opened(server, action)
    assert 1.0 <= time.monotonic() - began < 20
    server.close()


def test_a_server_that_cuts_every_connection_off_stops_the_statement() -> None:
    with (
        FakeServer(faults=[HttpFault.reset()]) as server,
        pytest.raises(ServerUnreachable, match="no connection"),
    ):
        send(server, 1000, limits=Limits(reconnect_timeout=0.3))


def test_a_row_that_breaks_its_connection_fails_alone() -> None:
    with FakeServer(faults=[HttpFault.reset(containing='"n": 2}')]) as server:
        outcomes = send(server, 20, limits=Limits(reconnect_timeout=0.2), concurrency=1)
    failed = [index for index, outcome in outcomes.items() if outcome.error]
    assert failed == [2]


def test_a_server_that_never_answers_stops_the_statement_after_some_rounds() -> None:
    with (
        FakeServer(faults=[HttpFault.hanging()]) as server,
        pytest.raises(ServerUnreachable, match="does not answer"),
    ):
        send(server, 1000, timeout=0.1, concurrency=2)


# Limits per minute


def test_requests_per_minute_are_kept() -> None:
    with FakeServer() as server:
        began = time.monotonic()
        send(server, 25, limits=Limits(requests_per_minute=600), concurrency=16)
        seconds = time.monotonic() - began
    assert seconds >= 1.4, "a second's worth at once, then ten per second"


def test_tokens_per_minute_are_kept_by_what_the_server_counts() -> None:
    with FakeServer() as server:
        began = time.monotonic()
        outcomes = send(server, 30, limits=Limits(tokens_per_minute=6_000), concurrency=16)
        seconds = time.monotonic() - began
    tokens = sum(o.usage.prompt_tokens + o.usage.completion_tokens for o in outcomes.values())
    assert seconds >= tokens / 100 - 1.5


def test_limits_per_minute_are_shared_by_all_who_use_an_endpoint() -> None:
    with FakeServer() as server:

        async def action(provider: OpenAICompatible) -> None:
            endpoint = Endpoint(16)
            await asyncio.gather(
                *(
                    dispatch(
                        provider,
                        rows(13),
                        endpoint=endpoint,
                        deliver=lambda *_: None,
                        limits=Limits(requests_per_minute=600),
                    )
                    for _ in range(2)
                )
            )

        began = time.monotonic()
        opened(server, action)
    assert time.monotonic() - began >= 1.4


def test_a_rate_limit_told_in_headers_is_kept_without_being_hit_again_and_again() -> None:
    with FakeServer(rate_limit=(20, 0.5)) as server:
        outcomes = send(server, 100, limits=Limits(max_retries=8), concurrency=8)
        refused = server.calls - 100
    assert all(outcome.error is None for outcome in outcomes.values())
    assert refused <= 100, "without the headers every call would be refused several times"


def test_a_form_that_the_server_refuses_stops_the_statement() -> None:
    with (
        FakeServer(faults=[HttpFault.failing(400, "no chat template")]) as server,
        pytest.raises(RequestRefused),
    ):
        send(server, 10)
