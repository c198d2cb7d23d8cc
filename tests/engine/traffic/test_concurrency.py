"""The limit of calls in flight finds what a server can do, and falls when it is too much.

The servers here are simulations with a clock of their own: a number of workers, a queue,
and perhaps a limit beyond which calls are refused.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.traffic.concurrency import AdaptiveConcurrency
from tests.engine.traffic.test_rate import Clock


@dataclass
class SimulatedServer:
    """Calls take `seconds` (give or take) on one of `workers`; others wait in a queue.

    refuses_above: with more calls in flight it answers 429 at once. accidents: share of
    calls that are refused whatever the load.
    """

    workers: int
    seconds: float = 0.1
    spread: float = 0.2
    refuses_above: int | None = None
    accidents: float = 0.0
    clock: Clock = field(default_factory=Clock)
    answered: int = 0
    limits: list[int] = field(default_factory=list)

    def run(self, control: AdaptiveConcurrency, calls: int, seed: int = 0) -> float:
        """Serve a number of calls that are always there to be sent; return calls per second."""
        random = Random(seed)
        began, free = self.clock.now, [self.clock.now] * self.workers
        heapq.heapify(free)
        events: list[tuple[float, float, bool]] = []
        self.answered = done = 0
        while done < calls:
            while len(events) < control.limit:
                now = self.clock.now
                full = self.refuses_above is not None and len(events) >= self.refuses_above
                if full or random.random() < self.accidents:
                    heapq.heappush(events, (now + 0.01 * random.uniform(0.5, 1.5), now, True))
                    continue
                starts = max(now, heapq.heappop(free))
                ends = starts + self.seconds * random.uniform(1 - self.spread, 1 + self.spread)
                heapq.heappush(free, ends)
                heapq.heappush(events, (ends, now, False))
            ends, sent, refused = heapq.heappop(events)
            self.clock.now = ends
            control.finished(ends - sent, overloaded=refused, waited=True)
            self.limits.append(control.limit)
            self.answered += not refused
            done += 1
        return self.answered / (self.clock.now - began)


def test_it_grows_until_throughput_stops_rising_and_little_further() -> None:
    server = SimulatedServer(workers=100)
    control = AdaptiveConcurrency(16, 256, clock=server.clock)
    server.run(control, 30_000)
    best = server.workers / server.seconds
    assert server.run(control, 20_000, seed=1) > 0.85 * best
    assert sum(server.limits[-10_000:]) / 10_000 < 160, "a longer queue brings nothing"


def test_a_short_job_gets_as_far_as_the_server_lets_it() -> None:
    server = SimulatedServer(workers=1_000, seconds=0.5)
    server.run(AdaptiveConcurrency(32, 128, clock=server.clock), 400)
    assert server.limits[-1] == 128, "32 twice, 64, 128: two rounds of calls each time"


def test_a_limit_that_was_doubled_in_vain_is_given_up_and_found_in_smaller_steps() -> None:
    server = SimulatedServer(workers=80, seconds=0.5)
    server.run(AdaptiveConcurrency(32, 256, clock=server.clock), 3_000)
    assert 128 in server.limits
    settled = server.limits[-500:]
    assert 80 <= sum(settled) / 500 < 110
    assert max(server.limits) == 128, "nothing is doubled after that"


def test_a_server_that_refuses_twice_as_many_calls_is_sent_those_it_took() -> None:
    server = SimulatedServer(workers=200, refuses_above=40)
    server.run(AdaptiveConcurrency(32, 128, clock=server.clock), 2_000)
    assert max(server.limits) == 64
    assert min(server.limits) == 32
    assert server.answered > 0.9 * 2_000


def test_a_server_that_one_call_fills_is_not_sent_many() -> None:
    server = SimulatedServer(workers=1, seconds=0.02)
    control = AdaptiveConcurrency(4, 256, clock=server.clock)
    server.run(control, 20_000)
    assert max(server.limits) <= 16


def test_many_refusals_make_it_fall_to_what_the_server_takes() -> None:
    server = SimulatedServer(workers=64, refuses_above=20)
    control = AdaptiveConcurrency(64, 64, clock=server.clock)
    server.run(control, 20_000)
    settled = server.limits[-10_000:]
    assert sum(settled) / len(settled) < 28
    assert server.answered > 0.85 * 20_000


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_a_few_accidents_cost_little_concurrency(share: float) -> None:
    server = SimulatedServer(workers=64, accidents=share)
    control = AdaptiveConcurrency(64, 64, clock=server.clock)
    server.run(control, 40_000)
    assert sum(server.limits) / len(server.limits) > 0.85 * 64


def test_it_recovers_after_a_bad_time() -> None:
    server = SimulatedServer(workers=64, accidents=0.6)
    control = AdaptiveConcurrency(64, 64, clock=server.clock)
    server.run(control, 3_000)
    assert control.limit < 16
    server.accidents = 0.0
    began = server.clock.now
    server.run(control, 8_000)
    assert control.limit > 48
    assert server.clock.now - began < 60


def test_a_queue_that_grows_makes_it_fall() -> None:
    server = SimulatedServer(workers=64)
    control = AdaptiveConcurrency(64, 64, clock=server.clock)
    server.run(control, 2_000)
    assert control.limit == 64
    server.workers = 8  # as if others took the rest of the server
    server.run(control, 2_000)
    assert sum(server.limits[-1_500:]) / 1_500 < 52


def test_calls_that_are_never_many_teach_nothing() -> None:
    clock = Clock()
    control = AdaptiveConcurrency(16, 256, clock=clock)
    for _ in range(10_000):
        clock.now += 0.05
        control.finished(0.05, overloaded=False, waited=False)
    assert control.limit == 16


def test_another_bound_takes_effect_at_once() -> None:
    control = AdaptiveConcurrency(16, 64)
    control.change(4, 4)
    assert control.limit == 4
    control.change(100, 100)
    assert control.limit == 100


@pytest.mark.parametrize(("start", "most"), [(0, 4), (4, 0), (-1, 1)])
def test_a_limit_below_one_is_refused(start: int, most: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AdaptiveConcurrency(start, most)


@given(
    st.integers(1, 40),
    st.integers(1, 200),
    st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.booleans()), max_size=400),
)
def test_whatever_happens_the_limit_stays_within_its_bounds(
    start: int, most: int, calls: list[tuple[float, bool, bool]]
) -> None:
    clock = Clock()
    control = AdaptiveConcurrency(start, most, clock=clock)
    for seconds, overloaded, waited in calls:
        clock.now += seconds
        before = control.limit
        control.finished(seconds, overloaded=overloaded, waited=waited)
        assert 1 <= control.limit <= most
        assert control.limit >= int(before * 0.5), "at most one decrease at a time"
