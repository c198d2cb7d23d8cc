"""Who is connected and what runs: for pg_stat_activity, cancel and terminate."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from quackllm.engine.commands import without_keys


@dataclass
class Activity:
    """One session. Times are Unix times in seconds.

    interrupt: ends the statement that runs; terminate: ends the session. Both may be called
    from any thread. is_manager: whether it sees and ends the statements of other users.
    """

    pid: int
    secret: int
    user: str
    database: str
    application: str
    address: str
    port: int
    interrupt: Callable[[], None] = lambda: None
    terminate: Callable[[], None] = lambda: None
    started: float = field(default_factory=time.time)
    query: str = ""
    query_started: float | None = None
    changed: float = field(default_factory=time.time)
    is_active: bool = False
    is_cancelled: bool = False
    is_manager: bool = True

    def runs(self, sql: str) -> None:
        """Note that a statement begins; other sessions may read it, so not the keys it gives."""
        self.query, self.is_active, self.is_cancelled = without_keys(sql), True, False
        self.query_started = self.changed = time.time()

    def waits(self) -> None:
        """Note that nothing runs."""
        if self.is_active:
            self.is_active, self.changed = False, time.time()

    def cancel(self) -> bool:
        """End the statement that runs; False when there is none."""
        if not self.is_active:
            return False
        self.is_cancelled = True
        self.interrupt()
        return True

    def manages(self, other: Activity) -> bool:
        """Whether it may see and end what another session runs."""
        return self.is_manager or other.user == self.user

    def abandon(self) -> None:
        """End the statement that runs: its client is gone."""
        self.cancel()


class Registry:
    """All sessions of a server."""

    def __init__(self) -> None:
        self._sessions: dict[int, Activity] = {}
        self._lock = Lock()
        self._last = 0
        self.changes = 0
        """Counts statements that may have changed what the catalog says."""

    def __len__(self) -> int:
        return len(self._sessions)

    def add(
        self,
        user: str,
        database: str,
        application: str,
        address: tuple[str, int],
        *,
        is_manager: bool = True,
    ) -> Activity:
        """Register a session under a number and a secret of its own."""
        with self._lock:
            self._last += 1
            activity = Activity(
                self._last, secrets.randbits(31), user, database, application, *address,
                is_manager=is_manager,
            )  # fmt: skip
            self._sessions[activity.pid] = activity
        return activity

    def remove(self, activity: Activity) -> None:
        """Forget a session."""
        with self._lock:
            self._sessions.pop(activity.pid, None)

    def sessions(self) -> list[Activity]:
        """Return the sessions, oldest first."""
        with self._lock:
            return list(self._sessions.values())

    def find(self, pid: int) -> Activity | None:
        """Return the session of a number."""
        return self._sessions.get(pid)

    def managed(self, pid: int, secret: int) -> Activity | None:
        """Return the session of a number if the session of a secret may end what it runs."""
        found = self.find(pid)
        if found is None:
            return None
        callers = [one for one in self.sessions() if one.secret == secret]
        return found if any(one.manages(found) for one in callers) else None

    def cancel(self, pid: int, secret: int) -> None:
        """Carry out a CancelRequest; one with a wrong secret is ignored, as the protocol says."""
        activity = self._sessions.get(pid)
        if activity is not None and secrets.compare_digest(
            activity.secret.to_bytes(4, "big"), (secret & 0xFFFFFFFF).to_bytes(4, "big")
        ):
            activity.cancel()
