"""A circuit breaker: a server that is gone is not called again and again, but probed.

Closed, calls go through. Open, they wait until the next probe is due. Half-open, one call
is the probe: a response closes the breaker, another failure opens it for twice as long
(Nygard, "Release It!", 2007).
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

FAILURES_THAT_OPEN = 3
"""Failed connections in a row, or different calls in a row whose connection broke off."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds between probes: doubled after each that failed."""

_WAIT_FOR_PROBE = 0.05


class State(Enum):
    """What happens to a call that is about to be sent."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """The breaker of one endpoint. Not for use from several threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state = State.CLOSED
        self._failures = 0
        self._cut_off: set[Hashable] = set()
        self._failed_probes = 0
        self._failing_since = 0.0
        self._probe_at = 0.0

    @property
    def state(self) -> State:
        """Closed, open or half-open."""
        return self._state

    @property
    def outage(self) -> float:
        """Seconds since the first of the failures, 0 while the server responds."""
        failing = self._failures or self._cut_off
        return self._clock() - self._failing_since if failing else 0.0

    def wait(self) -> float:
        """Return the seconds to wait before asking again; 0 to send the call now.

        Who gets 0 while the breaker is open is the probe: what comes of it has to be
        told, by `responded`, `unreachable`, `cut_off` or `abandoned`.
        """
        if self._state is State.CLOSED:
            return 0.0
        if self._state is State.HALF_OPEN:
            return _WAIT_FOR_PROBE
        left = self._probe_at - self._clock()
        if left > 0:
            return left
        self._state = State.HALF_OPEN
        return 0.0

    def responded(self) -> None:
        """The server has sent a response, whatever it says."""
        self._state = State.CLOSED
        self._failures = self._failed_probes = 0
        self._cut_off.clear()

    def unreachable(self) -> None:
        """No connection could be made."""
        self._begin_outage()
        self._failures += 1
        if self._failures >= FAILURES_THAT_OPEN or self._state is State.HALF_OPEN:
            self._open()

    def cut_off(self, call: Hashable) -> None:
        """The connection broke off while a call was on its way.

        One call that does so again and again says more about the call than about the
        server, so different ones are counted.
        """
        self._begin_outage()
        self._cut_off.add(call)
        if len(self._cut_off) >= FAILURES_THAT_OPEN or self._state is State.HALF_OPEN:
            self._open()

    def abandoned(self) -> None:
        """The probe was cancelled; the next call is the probe."""
        if self._state is State.HALF_OPEN:
            self._state = State.OPEN

    def _begin_outage(self) -> None:
        if not self._failures and not self._cut_off:
            self._failing_since = self._clock()

    def _open(self) -> None:
        if self._state is State.OPEN:
            return  # calls that were on their way when it opened
        if self._state is State.HALF_OPEN:
            self._failed_probes += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failed_probes, 10))
        self._probe_at = self._clock() + pause
        self._state = State.OPEN
