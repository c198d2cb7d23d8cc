"""The transaction state of a session, as PostgreSQL has it, over DuckDB's transactions.

DuckDB has no savepoints: one can be released, and one can be gone back to as long as
nothing was written since. Anything else is refused, never pretended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from quackllm.server.pgwire.errors import SqlState, WireError


@dataclass
class _Savepoint:
    name: str
    written: bool = False
    """Whether anything was written since."""


class Transactions:
    """BEGIN, COMMIT, savepoints and the failed state; `run` gives SQL to DuckDB."""

    def __init__(self, run: Callable[[str], object]) -> None:
        self._run = run
        self._open = False
        self._implicit = False
        self._failed = False
        self._written = False
        self._savepoints: list[_Savepoint] = []

    @property
    def state(self) -> str:
        """What ReadyForQuery says: I, T or E."""
        if not self._open or self._implicit:
            return "I"
        return "E" if self._failed else "T"

    @property
    def is_open(self) -> bool:
        """Whether DuckDB is in a transaction, the user's or an implicit one."""
        return self._open

    def check(self) -> None:
        """Raise `WireError` in a failed transaction."""
        if self._failed:
            raise WireError(
                SqlState.FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )

    def begin(self) -> str | None:
        """Carry out BEGIN; return a warning if there is one."""
        self.check()
        if self._open and not self._implicit:
            return "there is already a transaction in progress"
        if not self._open:
            self._run("BEGIN")
        self._open, self._implicit = True, False
        return None

    def begin_implicit(self) -> None:
        """Begin what several statements of one message, or up to one Sync, have together."""
        if not self._open:
            self._run("BEGIN")
            self._open = self._implicit = True

    def commit(self) -> str:
        """Carry out COMMIT; return the tag, which is ROLLBACK after a failure."""
        if not self._open:
            return "COMMIT"
        if self._failed:
            return self.rollback()
        try:
            self._run("COMMIT")
        except BaseException:
            # DuckDB has rolled it back.
            self._reset()
            raise
        self._reset()
        return "COMMIT"

    def rollback(self) -> str:
        """Carry out ROLLBACK; return the tag."""
        if self._open:
            self._reset()
            self._run("ROLLBACK")
        return "ROLLBACK"

    def end_implicit(self) -> None:
        """End an implicit transaction: committed, or rolled back if it failed."""
        if self._implicit:
            if self._failed:
                self.rollback()
            else:
                self.commit()

    def fail(self) -> None:
        """A statement failed."""
        if self._open:
            self._failed = True

    def wrote(self) -> None:
        """A statement may have changed something."""
        self._written = True
        for savepoint in self._savepoints:
            savepoint.written = True

    def savepoint(self, name: str) -> None:
        """Carry out SAVEPOINT."""
        self.check()
        self._require_block("SAVEPOINT")
        self._savepoints.append(_Savepoint(name))

    def release(self, name: str) -> None:
        """Carry out RELEASE SAVEPOINT."""
        self.check()
        self._require_block("RELEASE SAVEPOINT")
        del self._savepoints[self._index(name) :]

    def rollback_to(self, name: str) -> None:
        """Carry out ROLLBACK TO SAVEPOINT. Raises `WireError` where DuckDB cannot."""
        self._require_block("ROLLBACK TO SAVEPOINT")
        index = self._index(name)
        lost = self._failed and not self._is_alive()
        if self._savepoints[index].written or (lost and self._written):
            raise WireError(
                SqlState.FEATURE_NOT_SUPPORTED,
                f'cannot go back to savepoint "{name}": the transaction has written, and DuckDB '
                "has no savepoints",
                hint="ROLLBACK undoes the whole transaction.",
            )
        if lost:
            # Nothing was written, so a new transaction has lost nothing but its snapshot.
            self._run("ROLLBACK")
            self._run("BEGIN")
        self._failed = False
        del self._savepoints[index + 1 :]

    def _is_alive(self) -> bool:
        """Whether DuckDB's transaction survived: it does errors of parsing and binding."""
        try:
            self._run("SELECT 1")
        except duckdb.Error:
            return False
        return True

    def _require_block(self, command: str) -> None:
        if not self._open or self._implicit:
            raise WireError(
                SqlState.NO_TRANSACTION, f"{command} can only be used in transaction blocks"
            )

    def _index(self, name: str) -> int:
        for index in reversed(range(len(self._savepoints))):
            if self._savepoints[index].name == name:
                return index
        raise WireError(SqlState.INVALID_SAVEPOINT, f'savepoint "{name}" does not exist')

    def _reset(self) -> None:
        self._open = self._implicit = self._failed = self._written = False
        self._savepoints = []
