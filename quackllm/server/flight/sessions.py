"""The sessions of all Flight clients: found again at each call, ended when they are silent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import Lock

from quackllm.server.flight.access import Caller
from quackllm.server.flight.session import FlightSession
from quackllm.server.pgwire.databases import Client, Databases

IDLE_SECONDS = 3600.0
"""How long a session may be silent before it ends. Flight has no connections that end."""

_SWEEP_SECONDS = 30.0


class Sessions:
    """Keeps a session for each log-in, or for each connection of a client that did not log in."""

    def __init__(
        self,
        databases: Databases,
        forget: Callable[[str], None],
        *,
        encrypted: bool,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """forget: makes a token invalid."""
        self._databases = databases
        self._forget = forget
        self._encrypted = encrypted
        self._idle_seconds = idle_seconds
        self._lock = Lock()
        self._sessions: dict[tuple[str, str], FlightSession] = {}
        self._stopped = threading.Event()
        threading.Thread(target=self._sweep, name="flight-sessions", daemon=True).start()

    def of(self, caller: Caller, peer: str, gone: Callable[[], bool]) -> FlightSession:
        """Return the session of a call, a new one if there is none. Raises `WireError`."""
        key = _key(caller, peer)
        with self._lock:
            found = self._sessions.get(key)
            if found is None:
                found = self._sessions[key] = self._begun(caller, peer, key)
                is_new = True
            else:
                is_new = False
        if is_new:
            try:
                found.do(found.configure, gone)
            except BaseException:
                self._end(key)
                raise
        return found

    def close(self, caller: Caller, peer: str) -> bool:
        """End the session of a call; False if there is none."""
        return self._end(_key(caller, peer))

    def close_all(self) -> None:
        """End all; what runs is interrupted."""
        self._stopped.set()
        for key in list(self._sessions):
            self._end(key)

    def _begun(self, caller: Caller, peer: str, key: tuple[str, str]) -> FlightSession:
        databases = self._databases
        name = caller.database or databases.first_for(caller.role)
        served = databases.find(name, caller.role)
        client = Client(caller.role, caller.application, _address(peer), self._encrypted)
        activity = databases.admit(client, served)
        opened = databases.open(client, served, activity)
        session = FlightSession(opened, activity, databases.faults)
        activity.terminate = lambda: _ignored(self._end(key))
        return session

    def _end(self, key: tuple[str, str]) -> bool:
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is None:
            return False
        self._forget(key[0])
        session.close()
        self._databases.registry.remove(session.activity)
        return True

    def _sweep(self) -> None:
        while not self._stopped.wait(min(_SWEEP_SECONDS, self._idle_seconds)):
            for key, session in list(self._sessions.items()):
                if session.idle_seconds > self._idle_seconds:
                    self._end(key)


def _key(caller: Caller, peer: str) -> tuple[str, str]:
    """A token, with the database that its holder asks for; otherwise the connection."""
    place = caller.database if caller.token else f"{caller.role.name} {peer} {caller.database}"
    return (caller.token, place)


def _address(peer: str) -> tuple[str, int]:
    """Read gRPC's name of a peer: ipv4:127.0.0.1:50000."""
    host, _, port = peer.partition(":")[2].rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0


def _ignored(_: object) -> None:
    """Make a procedure of a function."""
