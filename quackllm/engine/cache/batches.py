"""Which batches were sent to providers and not collected yet: recorded beside the answers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from quackllm.engine.cache.question import DIGEST_BYTES
from quackllm.engine.cache.store import BUSY_SECONDS
from quackllm.errors import QuackLLMError

KEPT_SECONDS = 30 * 86_400
"""After so long providers have thrown the answers of a batch away."""

_TABLE = """
CREATE TABLE IF NOT EXISTS provider_batches (
    tag TEXT PRIMARY KEY, batch TEXT, question BLOB NOT NULL, keys BLOB NOT NULL,
    created INTEGER NOT NULL
)
"""


@dataclass(frozen=True)
class SentBatch:
    """A batch that was sent, or was about to be.

    tag: names it for us. id: the provider's name for it; None when the process ended before
        it was known. keys: digests of the questions that were not collected yet.
    """

    tag: str
    id: str | None
    keys: frozenset[bytes]


class BatchRecords:
    """The record of batches in a database of answers, or in memory.

    Raises `QuackLLMError` where the file cannot be read or written: a batch that nobody
    remembers would be paid a second time.
    """

    def __init__(self, path: Path | None) -> None:
        """Keep the record in the file of the answers; None: in memory, for this instance."""
        self._path = path
        self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)

    def begin(self, tag: str, question: bytes, keys: Iterable[bytes]) -> None:
        """Record a batch that is about to be sent."""
        now = int(time.time())
        with self._connected() as connection:
            connection.execute(
                "DELETE FROM provider_batches WHERE created < ?", (now - KEPT_SECONDS,)
            )
            connection.execute(
                "INSERT INTO provider_batches VALUES (?, NULL, ?, ?, ?)",
                (tag, question, b"".join(keys), now),
            )

    def name(self, tag: str, batch: str) -> None:
        """Record what the provider calls a batch."""
        with self._connected() as connection:
            connection.execute("UPDATE provider_batches SET batch = ? WHERE tag = ?", (batch, tag))

    def leave(self, tag: str, keys: frozenset[bytes]) -> None:
        """Record which keys of a batch are still to be collected; without any, forget it."""
        with self._connected() as connection:
            if keys:
                connection.execute(
                    "UPDATE provider_batches SET keys = ? WHERE tag = ?", (b"".join(keys), tag)
                )
            else:
                connection.execute("DELETE FROM provider_batches WHERE tag = ?", (tag,))

    def find(self, question: bytes) -> list[SentBatch]:
        """Return the batches that were sent for a question, the first one first."""
        sql = "SELECT tag, batch, keys FROM provider_batches WHERE question = ? ORDER BY created"
        with self._connected() as connection:
            rows = connection.execute(sql, (question,)).fetchall()
        return [SentBatch(tag, batch, _split(keys)) for tag, batch, keys in rows]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._path is None:
                self._memory.execute(_TABLE)
                yield self._memory
                return
            with closing(
                sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute(_TABLE)
                yield connection
        except sqlite3.Error as error:
            raise QuackLLMError(
                f"IO Error: batches cannot be recorded in '{self._path}': {error}"
            ) from None


def _split(keys: bytes) -> frozenset[bytes]:
    return frozenset(keys[at : at + DIGEST_BYTES] for at in range(0, len(keys), DIGEST_BYTES))
