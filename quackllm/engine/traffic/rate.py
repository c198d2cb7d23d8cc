"""Requests and tokens per minute, kept by spreading them evenly over time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BURST_SECONDS = 1.0
"""What was not used within this time may be used at once; servers count as finely."""

_MINUTE = 60.0


class Pace:
    """How much of something may be used per minute, for all who use it together.

    The generic cell rate algorithm (ITU-T I.371): one number, the time at which all that
    was reserved so far will have been earned. In any minute at most what is allowed is
    used, bursts included. Reservations are served in the order in which they were made,
    may be larger than what a minute allows, and can be corrected when the true amount is
    known. Not for use from several threads.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._earned_at = 0.0
        self._held_until = 0.0

    def reserve(self, amount: float, per_minute: float) -> float:
        """Reserve an amount; return the seconds to wait before it is used."""
        now, cost = self._clock(), self._seconds(amount, per_minute)
        self._earned_at = max(self._earned_at, now) + cost
        return max(0.0, self._earned_at - max(BURST_SECONDS, cost) - now)

    def correct(self, difference: float, per_minute: float) -> None:
        """Add to what was reserved, or take back from it."""
        self._earned_at += self._seconds(difference, per_minute)

    def hold(self, seconds: float) -> None:
        """Use nothing for some seconds, because the server said so."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def held(self) -> float:
        """Return for how many seconds nothing may be used."""
        return max(0.0, self._held_until - self._clock())

    @staticmethod
    def _seconds(amount: float, per_minute: float) -> float:
        """Return in how many seconds an amount is earned: a minute, the burst included."""
        return amount * (_MINUTE + BURST_SECONDS) / per_minute
