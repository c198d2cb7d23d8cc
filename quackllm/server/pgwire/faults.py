"""Errors that are the server's own: counted and logged, with nothing of anybody's data."""

from __future__ import annotations

import logging
import traceback
from threading import Lock

import duckdb

from quackllm.server.pgwire.errors import WireError

LOGGER = logging.getLogger("quackllm.server")

_DUCKDBS_OWN = (duckdb.InternalException, duckdb.FatalException)


class Faults:
    """Counts the errors that no client is to blame for.

    The log has where such an error came from; its message, which may hold values or keys,
    is told to the client alone. The number is in both.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0

    @property
    def count(self) -> int:
        """How many there have been."""
        return self._count

    def told(self, error: BaseException, failure: WireError) -> WireError:
        """Note an error; put its number into what the client is told of it."""
        number = self.note(error)
        if number:
            failure.hint = f"This is fault {number} of the server's; its log says where."
        return failure

    def note(self, error: BaseException) -> int:
        """Count an error and log where it happened; return its number, 0 for no fault."""
        if isinstance(error, (WireError, ConnectionError)):
            return 0
        if isinstance(error, duckdb.Error) and not isinstance(error, _DUCKDBS_OWN):
            return 0
        with self._lock:
            self._count += 1
            number = self._count
        LOGGER.error("fault %d of the server's: %s", number, "\n".join(_places(error)))
        return number


def _places(error: BaseException | None) -> list[str]:
    """Say the class of an error and of what led to it, each with its lines of code."""
    found: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
        found.append(type(error).__qualname__ + "\n" + "".join(frames).rstrip())
        error = error.__cause__ or error.__context__
    return found
