"""Who calls: log-in by name and password, tokens, and the session that a call belongs to."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from pyarrow import flight

from quackllm.server.pgwire.roles import Role
from quackllm.server.pgwire.scram import is_password

GATE = "gate"
"""Key of the middleware in a call's context."""

_GUEST = "guest"
"""Name of a client that says none, where anybody is let in."""


@dataclass(frozen=True)
class Caller:
    """Who makes a call.

    token: of a log-in, empty for a client that has none.
    database: the one it asks for, empty for the only or first one.
    """

    role: Role
    token: str
    database: str
    application: str


class Call(flight.ServerMiddleware):  # type: ignore[misc]
    """One call; a log-in is answered with a token."""

    def __init__(self, caller: Caller, *, tell: bool) -> None:
        self.caller = caller
        self._tell = tell

    def sending_headers(self) -> dict[str, str]:
        """Return the headers that go to the client."""
        return {"authorization": f"Bearer {self.caller.token}"} if self._tell else {}


class OpenDoor(flight.ServerAuthHandler):  # type: ignore[misc]
    """Lets Flight's handshake pass: `Gate` has looked at its headers."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        """Nothing is left to say."""

    def is_valid(self, token: bytes) -> bytes:
        """Return whom the token names."""
        return b""


class Gate(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Looks at the headers of every call. Raises `FlightUnauthenticatedError`."""

    def __init__(self, users: Mapping[str, Role] | None, *, read_only: bool) -> None:
        """users: by name; None lets anybody in under any name."""
        self._users = users
        self._read_only = read_only
        self._lock = Lock()
        self._tokens: dict[str, Role] = {}

    def start_call(self, info: flight.CallInfo, headers: Mapping[str, Any]) -> Call:
        """Let a call in, or not."""
        given = _header(headers, "authorization")
        scheme, _, rest = given.partition(" ")
        token, is_login = "", False
        if scheme.lower() == "bearer":
            token = rest
            role = self._tokens.get(token)
            if role is None:
                raise flight.FlightUnauthenticatedError(
                    "the token is not valid, or its session has ended: log in again"
                )
        elif scheme.lower() == "basic":
            role = self._logged_in(rest)
            is_login = info.method == flight.FlightMethod.HANDSHAKE
        elif self._users is None:
            role = Role(_GUEST, read_only=self._read_only)
        else:
            raise flight.FlightUnauthenticatedError("log in with a name and a password")
        if is_login:
            token = secrets.token_urlsafe(24)
            with self._lock:
                self._tokens[token] = role
        names = (_header(headers, "database"), _header(headers, "user-agent"))
        return Call(Caller(role, token, *names), tell=is_login)

    def forget(self, token: str) -> None:
        """Make a token invalid."""
        with self._lock:
            self._tokens.pop(token, None)

    def _logged_in(self, encoded: str) -> Role:
        try:
            padded = encoded + "=" * (-len(encoded) % 4)  # some clients leave it out
            user, colon, password = base64.b64decode(padded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise flight.FlightUnauthenticatedError("the log-in is no name and password")
        if self._users is None:
            return Role(user or _GUEST, read_only=self._read_only)
        role = self._users.get(user)
        if not is_password(role.verifier if role else None, password) or role is None:
            raise flight.FlightUnauthenticatedError(
                f'password authentication failed for user "{user}"'
            )
        return role


def _header(headers: Mapping[str, Any], name: str) -> str:
    found = headers.get(name) or [""]
    return found[0] if isinstance(found[0], str) else ""
