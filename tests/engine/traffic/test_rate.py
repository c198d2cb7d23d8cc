"""Requests and tokens per minute: never more in any minute, and not much less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.traffic.rate import Pace


class Clock:
    """A clock that goes as told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sent_at(per_minute: float, pauses: list[float]) -> list[float]:
    """Reserve one after each pause; return when each may be used."""
    clock = Clock()
    pace = Pace(clock=clock)
    times = []
    for pause in pauses:
        clock.now += pause
        times.append(clock.now + pace.reserve(1, per_minute))
    return times


@given(
    st.integers(1, 500),
    st.lists(st.floats(0, 20) | st.just(0.0), min_size=1, max_size=300),
)
def test_no_minute_has_more_than_allowed_however_requests_come(
    per_minute: int, pauses: list[float]
) -> None:
    times = sent_at(per_minute, pauses)
    for first, began in enumerate(times):
        within = sum(began <= time < began + 60 - 1e-6 for time in times[first:])
        assert within <= per_minute


@given(st.lists(st.floats(0, 5), min_size=2, max_size=100))
def test_turns_come_in_the_order_of_reserving(pauses: list[float]) -> None:
    times = sent_at(60, pauses)
    assert times == sorted(times)


def test_a_long_job_gets_nearly_all_that_is_allowed() -> None:
    times = sent_at(600, [0.0] * 6000)
    assert 590 <= 6000 / (times[-1] - times[0]) * 60 <= 610


def test_what_was_reserved_too_much_is_taken_back() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    pace.reserve(6000, 6000)
    assert pace.reserve(100, 6000) == pytest.approx(60, abs=1)
    pace.correct(-5900, 6000)
    assert pace.reserve(100, 6000) < 3


def test_a_call_larger_than_a_minute_allows_is_let_through_and_paid_for() -> None:
    pace = Pace(clock=Clock())
    assert pace.reserve(30_000, 10_000) == 0
    assert pace.reserve(1, 10_000) > 170


def test_a_hold_ends_by_itself() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    pace.hold(5)
    pace.hold(2)
    assert pace.held() == 5
    clock.now += 6
    assert pace.held() == 0
