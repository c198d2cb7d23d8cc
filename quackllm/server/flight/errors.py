"""Errors of statements as Flight's: a code, our message with its hint, and the SQLSTATE.

pyarrow sends its own Flight errors as they are, and puts a traceback of the server behind
any other exception. So errors of SQL have the code UNKNOWN, where INVALID_ARGUMENT or
NOT_FOUND would say a little more.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyarrow import flight

from quackllm.server.flight.messages import message
from quackllm.server.pgwire.errors import SqlState, WireError

_UNKNOWN = (flight.FlightServerError, 2)

_CODES: Mapping[SqlState, tuple[type[flight.FlightError], int]] = {
    SqlState.CANCELED: (flight.FlightCancelledError, 1),
    SqlState.PRIVILEGE: (flight.FlightUnauthorizedError, 7),
    SqlState.READ_ONLY: (flight.FlightUnauthorizedError, 7),
    SqlState.INTERNAL: (flight.FlightInternalError, 13),
    SqlState.SHUTDOWN: (flight.FlightUnavailableError, 14),
    SqlState.TOO_MANY_CONNECTIONS: (flight.FlightUnavailableError, 14),
}
"""Flight's errors, and the codes of gRPC that they become."""


def not_supported(name: str) -> NotImplementedError:
    """Return the error of a command or an action that there is not, for drivers to see."""
    return NotImplementedError(f"{name} is not supported")


def flight_error(error: WireError) -> Exception:
    """Return the exception that tells a client of an error."""
    kind, code = _CODES.get(error.state, _UNKNOWN)
    parts = [error.message, *(one for one in (error.detail, error.hint) if one)]
    place = f", position {error.position}" if error.position else ""
    text = "\n".join(parts) + f" (SQLSTATE {error.state}{place})"
    # Without this, gRPC's own message has the name of the code behind ours.
    status = message("RpcStatus", code=code, message=text)
    error_: Exception = kind(text, status.SerializeToString())
    return error_
