"""Who is asking for what, among the processes that use one database of answers.

The claims have a file of their own beside the database: they are written often and
worth nothing after a power cut, so nothing waits for the disk. Nobody compares clocks:
the owner of claims counts its `beat` up, and who waits for it takes it for dead when
the count has stood still for `LEASE_SECONDS` of its own time.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from quackllm.engine.cache.store import is_damage, make_private, use_wal

LEASE_SECONDS = 3.0
BEAT_SECONDS = 0.5

# A claim is a hint that saves a call; the call itself is not to wait for it.
_BUSY_MILLISECONDS = 100
_KEYS_PER_QUERY = 500

_TABLES = """
CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, owner INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owners (owner INTEGER PRIMARY KEY, beat INTEGER NOT NULL);
"""


class Claims:
    """The claims of this process in the shared file; each instance is an owner.

    Nothing here raises: where the file does not work, everybody may ask for everything.
    """

    def __init__(
        self,
        database: Path,
        on_death: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the file beside `database`.

        on_death: called when another process is found dead, before its claims are void.
        clock: counts seconds.
        """
        self.path = database.with_name(database.name + ".claims")
        self._on_death = on_death
        self._clock = clock
        self._owner = secrets.randbits(62)
        self._beat = 0
        self._paused_until = clock()
        self._held: set[bytes] = set()
        self._seen: dict[int, tuple[int, float]] = {}
        self._lock = Lock()
        self._connection = _open(self.path)

    @property
    def held(self) -> int:
        """How many claims this process has."""
        return len(self._held)

    def claim(self, keys: Sequence[bytes]) -> set[bytes]:
        """Claim keys; return those that another process has."""
        with self._lock:
            if self._connection is None or not keys or self._clock() < self._paused_until:
                return set()
            try:
                others = self._insert(keys)
            except sqlite3.Error:  # locked: the calls are not to wait for that again and again
                self._paused_until = self._clock() + LEASE_SECONDS
                return set()
            self._held.update(key for key in keys if key not in others)
            return others

    def end(self, keys: Sequence[bytes]) -> None:
        """End claims of this process."""
        with self._lock:
            ended = [(key, self._owner) for key in keys if key in self._held]
            self._held.difference_update(keys)
            if self._connection is not None and ended:
                with suppress(sqlite3.Error):
                    self._write("DELETE FROM claims WHERE key = ? AND owner = ?", ended)

    def beat(self) -> None:
        """Show that this process lives, at least every `BEAT_SECONDS` while it has claims."""
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                self._beat += 1
                row = self._owner, self._beat
                self._write("INSERT OR REPLACE INTO owners VALUES (?, ?)", [row])

    def close(self) -> None:
        """End all claims. May be called twice."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            with suppress(sqlite3.Error):
                for table in ("claims", "owners"):
                    connection.execute(f"DELETE FROM {table} WHERE owner = ?", (self._owner,))
            connection.close()

    def _insert(self, keys: Sequence[bytes]) -> set[bytes]:
        if self._beat == 0:
            self._beat = 1
            self._write("INSERT INTO owners VALUES (?, 1)", [(self._owner,)])
        rows = [(key, self._owner) for key in keys]
        if self._write("INSERT OR IGNORE INTO claims VALUES (?, ?)", rows) == len(keys):
            return set()
        holders = self._holders(keys)
        dead = [owner for owner in set(holders.values()) if self._is_dead(owner)]
        if dead:
            self._on_death()
            for table in ("claims", "owners"):
                self._write(f"DELETE FROM {table} WHERE owner = ?", [(owner,) for owner in dead])
            self._write("INSERT OR IGNORE INTO claims VALUES (?, ?)", rows)
            holders = self._holders(keys)
        return set(holders)

    def _holders(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return key → owner of those that others have."""
        assert self._connection is not None
        holders: dict[bytes, int] = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            sql = f"SELECT key, owner FROM claims WHERE owner <> ? AND key IN ({marks})"
            holders.update(self._connection.execute(sql, (self._owner, *some)).fetchall())
        return holders

    def _is_dead(self, owner: int) -> bool:
        assert self._connection is not None
        sql = "SELECT beat FROM owners WHERE owner = ?"
        row = self._connection.execute(sql, (owner,)).fetchone()
        if row is None:
            return True
        now = self._clock()
        beat, since = self._seen.get(owner, (None, now))
        if beat != row[0]:
            self._seen[owner] = row[0], now
            return False
        return now - since > LEASE_SECONDS

    def _write(self, sql: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Run a statement for each row in one transaction; return how many rows changed."""
        assert self._connection is not None
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            changed = connection.executemany(sql, rows).rowcount
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return changed


def _open(path: Path) -> sqlite3.Connection | None:
    """Open the file; one that a power cut has damaged is made anew."""
    for _ in range(2):
        connection = None
        try:
            make_private(path)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            use_wal(connection)
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_TABLES)
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
            return connection
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            if not (isinstance(error, sqlite3.Error) and is_damage(error)):
                return None
            with suppress(OSError):
                path.unlink()
    return None
