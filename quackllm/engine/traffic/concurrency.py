"""How many calls may be in flight at one endpoint: learned from how the calls go.

Additive increase, multiplicative decrease (Chiu and Jain 1989, "Analysis of the increase
and decrease algorithms for congestion avoidance in computer networks"), with two changes
for model servers. They queue instead of refusing, so every increase is a trial: it is kept
only if throughput rises with it. And one refusal is an accident: the limit falls when
refusals are a share of the calls, not at the first.

It begins with a slow start (Jacobson 1988, "Congestion avoidance and control"): the limit
doubles in every trial until one fails. The jobs of most statements are over before steps of
a fixed size would have got anywhere.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OVERLOADED_SHARE = 0.15
"""Refused calls (429, 503, no answer in time) beyond which the limit falls."""

DECREASE = 0.7
"""What the limit is multiplied with when it falls."""

QUEUE_GROWTH = 2.0
"""A server that takes so many times longer than before, and answers no more, has a queue."""

_ROUNDS = 2  # an epoch, over which is measured: so many calls per place in flight,
_SHORTEST_EPOCH = 100  # and at least so many: accidents come in small numbers
_SHORTEST_DOUBLING = 32  # when the limit doubles, which shows in fewer of them
_STEPS = 4  # the step of the increase: this part of the limit
_GAIN_KEPT = 0.5  # of the gain in throughput that an increase can bring at best
_LONGEST_REST = 16  # epochs between trials that failed


class AdaptiveConcurrency:
    """The limit of calls in flight, between 1 and `most`.

    `finished` is told of every call that ends; `limit` is what holds now. Not for use
    from several threads.
    """

    def __init__(
        self, start: int, most: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with `start` calls in flight; never allow more than `most`.

        Raises `ValueError` for a limit below 1.
        """
        self._clock = clock
        self._epoch_began = self._measured_from = clock()
        self._ended = self._waited = self._overloaded = 0
        self._busy = 0.0
        self._begin(start, most)

    def _begin(self, start: int, most: int) -> None:
        if start < 1 or most < 1:
            raise ValueError(f"concurrency is {min(start, most)}; at least 1 call has to be made")
        self._start, self._most = start, most
        self._limit = min(start, most)
        self._doubles = True
        self._rate = self._seconds = 0.0  # of the last epoch at a limit that was kept
        self._before_trial: int | None = None
        self._rest = self._rests_left = 1
        self._begin_epoch()

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return self._limit

    def change(self, start: int, most: int) -> None:
        """Begin anew between other limits; with the same ones, go on as it was."""
        if (start, most) != (self._start, self._most):
            self._begin(start, most)

    def finished(self, seconds: float, *, overloaded: bool, waited: bool) -> None:
        """Take into account a call that has ended.

        seconds: what the server took. overloaded: it refused the call, or did not
        answer in time. waited: another call was waiting for a place, so that the limit
        is what holds the throughput down.
        """
        now = self._clock()
        if now - seconds < self._epoch_began:
            return  # sent under an earlier limit: it says nothing about this one
        if not self._ended:
            self._measured_from = now
        self._ended += 1
        self._waited += waited
        if overloaded:
            self._overloaded += 1
        else:
            self._busy += seconds
        shortest = _SHORTEST_DOUBLING if self._doubles else _SHORTEST_EPOCH
        size = max(shortest, _ROUNDS * self._limit)
        if self._overloaded > OVERLOADED_SHARE * size:
            self._overload()
        elif self._ended >= size:
            self._judge(now - self._measured_from)

    def _judge(self, elapsed: float) -> None:
        """Decide at the end of an epoch without overload."""
        answered = self._ended - self._overloaded
        rate, seconds = answered / max(elapsed, 1e-9), self._busy / max(answered, 1)
        if self._waited * 2 < self._ended:
            self._begin_epoch()  # too few calls to learn from
            return
        if self._before_trial is not None:
            self._end_trial(self._before_trial, rate, seconds)
            return
        queued = self._seconds and seconds > QUEUE_GROWTH * self._seconds
        if queued and rate < 1.1 * self._rate:
            self._decrease()
        else:
            self._begin_trial()
        self._rate, self._seconds = rate, seconds

    def _begin_trial(self) -> None:
        """Grow by a step, unless it is too early for that or the limit is the bound."""
        self._before_trial = None
        if self._limit < self._most and self._rests_left == 0:
            self._before_trial = self._limit
            step = self._limit if self._doubles else max(1, self._limit // _STEPS)
            self._limit = min(self._limit + step, self._most)
        self._rests_left = max(0, self._rests_left - 1)
        self._begin_epoch()

    def _end_trial(self, before: int, rate: float, seconds: float) -> None:
        """Keep the larger limit if it brought throughput."""
        at_best = self._limit / before - 1
        if rate >= self._rate * (1 + _GAIN_KEPT * at_best):
            self._rate, self._seconds = rate, seconds
            self._rest = 1
            self._begin_trial()
        else:
            self._give_up_trial(before)

    def _give_up_trial(self, before: int) -> None:
        """Go back, and wait longer until the next trial."""
        self._limit, self._before_trial, self._doubles = before, None, False
        self._rest = self._rests_left = min(2 * self._rest, _LONGEST_REST)
        self._begin_epoch()

    def _overload(self) -> None:
        if self._before_trial is not None:
            self._give_up_trial(self._before_trial)
        else:
            self._decrease()

    def _decrease(self) -> None:
        self._limit, self._doubles = max(1, int(self._limit * DECREASE)), False
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._epoch_began = self._measured_from = self._clock()
        self._ended = self._waited = self._overloaded = 0
        self._busy = 0.0
