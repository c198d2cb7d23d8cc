"""The circuit breaker: closed, open, half-open, as calls go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.traffic.breaker import (
    FAILURES_THAT_OPEN,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Breaker,
    State,
)
from tests.engine.traffic.test_rate import Clock


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock=clock)
    for _ in range(FAILURES_THAT_OPEN):
        assert breaker.wait() == 0
        breaker.unreachable()
    return breaker


def test_it_opens_after_some_failed_connections_in_a_row() -> None:
    breaker = Breaker(clock=Clock())
    for _ in range(10):
        breaker.unreachable()
        breaker.unreachable()
        breaker.responded()
    assert breaker.state is State.CLOSED
    assert opened(Clock()).state is State.OPEN


def test_open_it_lets_one_probe_through_at_a_time_and_less_and_less_often() -> None:
    clock = Clock()
    breaker = opened(clock)
    pauses = []
    for _ in range(8):
        pauses.append(breaker.wait())
        assert pauses[-1] > 0
        clock.now += pauses[-1]
        assert breaker.wait() == 0, "the probe"
        assert breaker.wait() > 0, "no second one meanwhile"
        breaker.unreachable()
        assert breaker.state is State.OPEN
    assert pauses[0] == pytest.approx(FIRST_PAUSE)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)


def test_a_probe_that_gets_a_response_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    assert breaker.outage == 1
    assert breaker.wait() == 0
    breaker.responded()
    assert breaker.state is State.CLOSED
    assert breaker.outage == 0
    assert breaker.wait() == 0


def test_a_probe_that_is_cancelled_leaves_its_place_to_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    assert breaker.wait() == 0
    breaker.abandoned()
    assert breaker.wait() == 0


def test_one_call_that_breaks_its_connection_again_and_again_does_not_open_it() -> None:
    breaker = Breaker(clock=Clock())
    for _ in range(100):
        breaker.cut_off("the row that crashes the worker")
    assert breaker.wait() == 0
    breaker.cut_off("another")
    breaker.cut_off("a third")
    assert breaker.wait() > 0


@given(st.lists(st.sampled_from(["unreachable", "cut_off", "responded", "wait", "abandoned"])))
def test_after_a_response_it_is_closed_and_it_always_lets_somebody_through_in_the_end(
    events: list[str],
) -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for number, event in enumerate(events):
        if event == "cut_off":
            breaker.cut_off(number)
        else:
            getattr(breaker, event)()
        if event == "responded":
            assert breaker.wait() == 0
    if breaker.state is State.HALF_OPEN:
        breaker.abandoned()
    clock.now += LONGEST_PAUSE
    assert breaker.wait() == 0
