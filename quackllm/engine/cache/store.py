"""The database of answers: one SQLite file, used by any number of processes at once."""

from __future__ import annotations

import binascii
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from quackllm.engine.cache.base import Entry, Selection
from quackllm.engine.cache.question import Question, same_place

if TYPE_CHECKING:
    from typing import Self

APPLICATION = 0x51554C4D
"""`PRAGMA application_id` of our files: the letters QULM."""

SCHEMA = 1
"""`PRAGMA user_version` of our files."""

BUSY_SECONDS = 5.0
"""How long a read or a write waits for another process."""

TOUCH_SECONDS = 86_400
"""An answer's time of use is written down again when it is older than this."""

ROW_BYTES = 60
"""What an answer takes in the file beside its text: key, times, and room left in pages."""

# Longer lists make SQLite's parser slow, shorter ones have more statements.
_KEYS_PER_LOOKUP = 500
_ROWS_PER_DELETE = 5_000
_CHECKPOINT_PAGES = 8_000
_HEADER_BYTES = 100

_TABLES = """
CREATE TABLE IF NOT EXISTS questions (
    number INTEGER PRIMARY KEY,
    function TEXT NOT NULL, version INTEGER NOT NULL,
    model TEXT NOT NULL, endpoint TEXT NOT NULL, revision TEXT, weights TEXT,
    identity TEXT NOT NULL, used INTEGER NOT NULL, bytes INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, question INTEGER NOT NULL, answer TEXT,
    created INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
"""

_SIZE = f"{ROW_BYTES} + coalesce(length(CAST(answer AS BLOB)), 0)"

Answer = tuple[bytes, int, str | None, int]
"""Key, number of the question, answer, and when it came (Unix seconds)."""

Kept = str | bytes | None
"""An answer as SQLite has it: the numbers of a vector as bytes, everything else as its text."""


class NotOurs(Exception):
    """A file that is to be left alone; the message says what it is."""


class Store:
    """The file, through one connection for reading and one for writing.

    Raises `sqlite3.Error` wherever SQLite does. Used from several threads at once.
    """

    def __init__(
        self,
        path: Path,
        reader: sqlite3.Connection,
        writer: sqlite3.Connection,
        how: str = "",
        frozen: _State | None = None,
    ) -> None:
        """Make a store of connections that were opened in a way, as `_connect` takes it.

        frozen: the only state of the file that may be read.
        """
        self.path = path
        self.file = _file_of(path)
        self._how, self._frozen = how, frozen
        self._reader, self._reading = reader, Lock()
        self._writer, self._writing = writer, Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, made if it is missing: readable by its owner only.

        Raises `OSError`, `sqlite3.Error`, and `NotOurs` for a database of something
        else or of a newer version, which stays as it is.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(path)
        reader = _connect(path)
        try:
            _prepare(reader)
            writer = _connect(path)
        except BaseException:
            reader.close()
            raise
        # An answer that was paid for outlives a power cut once `write` has returned.
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return cls(path, reader, writer)

    @classmethod
    def open_to_read(cls, path: Path) -> Self:
        """Open a file that cannot be written, or beside which no other file can be made.

        Without these SQLite has no locks; what is read is then taken only while nobody
        writes. Raises `OSError`, `sqlite3.Error`, and `NotOurs` as `open` does.
        """
        try:
            return cls._opened_to_read(path, "mode=ro")
        except sqlite3.Error:
            state = _State.of(path)
            if state is None or state.log_bytes:  # what is in the log is not in the file
                raise
            return cls._opened_to_read(path, "immutable=1", state)

    @classmethod
    def _opened_to_read(cls, path: Path, how: str, frozen: _State | None = None) -> Self:
        reader = _connect(path, how)
        try:
            if not _is_made(reader):
                raise NotOurs("is empty")
        except BaseException:
            reader.close()
            raise
        return cls(path, reader, reader, how, frozen)

    def find(self, keys: Sequence[bytes]) -> tuple[dict[bytes, str | None], list[bytes]]:
        """Return the answers by key, and the keys whose time of use is to be written again."""
        stale_before = int(time.time()) - TOUCH_SECONDS
        # In the order of keys, so that pages are read once, one after the other. To read
        # the whole table instead is hardly faster, even where all of it is wanted.
        ordered = sorted(keys)
        found: dict[bytes, str | None] = {}
        stale: list[bytes] = []
        with self._reading:
            for start in range(0, len(ordered), _KEYS_PER_LOOKUP):
                some = ordered[start : start + _KEYS_PER_LOOKUP]
                marks = ",".join("?" * len(some))
                sql = f"SELECT key, answer, used FROM answers WHERE key IN ({marks})"
                for key, answer, used in self._reader.execute(sql, some):
                    found[key] = _shown(answer)
                    if used < stale_before:
                        stale.append(key)
        if self._frozen is not None and self._frozen != _State.of(self.path):
            return {}, []
        return found, stale

    def write(self, questions: Iterable[Question], answers: Sequence[Answer]) -> None:
        """Add answers and what they answer, all or nothing."""
        now = int(time.time())
        questions = list(questions)
        vectors = {question.number for question in questions if question.vectors}
        sizes: Counter[int] = Counter()
        rows: list[tuple[bytes, int, Kept, int, int]] = []
        for key, question, answer, created in answers:
            kept = _kept(answer) if question in vectors else answer
            sizes[question] += ROW_BYTES + _bytes_of(kept)
            rows.append((key, question, kept, created, created))
        with self._transaction() as writer:
            writer.executemany(
                "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET used = excluded.used, bytes = bytes + excluded.bytes",
                [(*_described(each), now, sizes[each.number]) for each in questions],
            )
            writer.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", rows)

    def touch(self, keys: Sequence[bytes]) -> None:
        """Write down that answers were used."""
        now = int(time.time())
        with self._transaction() as writer:
            writer.executemany(
                "UPDATE answers SET used = ? WHERE key = ?", [(now, key) for key in keys]
            )

    def similar(self, question: Question) -> Question | None:
        """See `AnswerCache.similar`."""
        sql = (
            "SELECT identity, endpoint, model, revision, weights FROM questions "
            "WHERE identity = ? AND ? IN ('', model) ORDER BY used DESC"
        )
        with self._reading:
            rows = self._reader.execute(sql, (question.identity, question.model)).fetchall()
        wanted = question.endpoint and same_place(question.endpoint)
        likely = (Question(*row) for row in rows)
        return next((q for q in likely if wanted in ("", same_place(q.endpoint))), None)

    def entries(self) -> Iterator[Entry]:
        """Go through all answers, the latest first, on a connection of its own."""
        sql = (
            "SELECT function, version, model, endpoint, identity, lower(hex(key)), answer, "
            "created, a.used, coalesce(length(CAST(answer AS BLOB)), 0) "
            "FROM answers a JOIN questions q ON q.number = a.question ORDER BY created DESC, key"
        )
        with closing(_connect(self.path, self._how)) as connection:
            for row in connection.execute(sql):
                entry = Entry(*row)
                yield replace(entry, answer=_shown(entry.answer))

    def clear(self, selection: Selection) -> int:
        """Delete answers and give their space back; return how many they were."""
        conditions = ["TRUE"]
        values: list[object] = []
        for column, wanted in (("function", selection.function), ("model", selection.model)):
            if wanted is not None:
                conditions.append(f"question IN (SELECT number FROM questions WHERE {column} = ?)")
                values.append(wanted)
        if selection.older_than is not None:
            conditions.append("created <= ?")
            values.append(time.time() - selection.older_than)
        return self._delete(" AND ".join(conditions), values)

    def size(self) -> int:
        """Bytes that the answers take, about.

        The file itself does not tell: keys are random, so what is deleted leaves room in
        every page, for answers to come, and frees few.
        """
        with self._reading:
            [size] = self._reader.execute("SELECT sum(bytes) FROM questions").fetchone()
        return int(size or 0)

    def evict(self, limit: int) -> int:
        """Delete the answers unused for longest until `limit` bytes are left; return how many.

        Answers of one second of use are one lot.
        """
        excess, cut = self.size() - limit, None
        lots = f"SELECT used, sum({_SIZE}) FROM answers GROUP BY used ORDER BY used"
        with closing(_connect(self.path)) as connection:
            for used, size in connection.execute(lots):
                if excess <= 0:
                    break
                excess, cut = excess - size, used
        return 0 if cut is None else self._delete("used <= ?", [cut])

    def _delete(self, condition: str, values: Sequence[object]) -> int:
        """Delete answers in steps, between which other processes may write."""
        step = (
            f"SELECT max(key), count(*) FROM (SELECT key FROM answers "
            f"WHERE key > ? AND {condition} ORDER BY key LIMIT {_ROWS_PER_DELETE})"
        )
        delete = f"DELETE FROM answers WHERE key > ? AND key <= ? AND {condition}"
        gone, done = 0, b""
        while True:
            with self._transaction() as writer:
                last, count = writer.execute(step, (done, *values)).fetchone()
                if last is not None:
                    gone += writer.execute(delete, (done, last, *values)).rowcount
                    done = last
            if count < _ROWS_PER_DELETE:
                break
        self._account()
        return gone

    def _account(self) -> None:
        """Put the sizes right after a deletion, and give free pages back."""
        with self._transaction() as writer:
            sizes = f"SELECT question AS number, sum({_SIZE}) AS size FROM answers GROUP BY 1"
            writer.execute("UPDATE questions SET bytes = 0")
            writer.execute(
                f"UPDATE questions SET bytes = s.size FROM ({sizes}) AS s "
                "WHERE s.number = questions.number"
            )
            writer.execute("DELETE FROM questions WHERE bytes = 0")
        with self._writing:
            # As a script: `execute` would free one page, and take that for the whole.
            self._writer.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(PASSIVE)")

    def was_moved(self) -> bool:
        """Whether another file, or none, is at the path by now."""
        return _file_of(self.path) != self.file

    def close(self) -> None:
        """Close both connections. May be called twice."""
        with self._reading, self._writing:
            self._reader.close()
            self._writer.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise


def make_private(path: Path) -> None:
    """Make a file that its owner alone may read, unless there is one. Raises `OSError`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def is_damage(error: Exception) -> bool:
    """Whether an error says that the file itself is broken."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def is_busy(error: Exception) -> bool:
    """Whether an error says that another process had the file for too long."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def looks_like_ours(path: Path) -> bool:
    """Whether the header of a file is that of a cache, whatever follows it."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return False
    return header[:16] == b"SQLite format 3\0" and header[68:72] == APPLICATION.to_bytes(4)


@dataclass(frozen=True)
class _State:
    """What changes when a file is written: its time and size, and bytes in its log."""

    changed: int
    size: int
    log_bytes: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Look at a file; None for one that is not there."""
        log = path.with_name(path.name + "-wal")
        try:
            status = path.stat()
            log_bytes = log.stat().st_size if log.exists() else 0
        except OSError:
            return None
        return cls(status.st_mtime_ns, status.st_size, log_bytes)


def _connect(path: Path, how: str = "") -> sqlite3.Connection:
    """Open a connection; `how` as SQLite's URIs say it, such as 'mode=ro'."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _is_made(connection: sqlite3.Connection) -> bool:
    """Whether the tables are there. Raises `NotOurs` where a file is to be left alone."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION:
        raise NotOurs("is a database of something else")
    if version > SCHEMA:
        raise NotOurs(f"is of a newer version of quackllm (format {version}, this is {SCHEMA})")
    return bool(tables)


def _prepare(connection: sqlite3.Connection) -> None:
    """Check whose file it is, and make the tables of a new one."""
    if not _is_made(connection):
        # Before the change to WAL, so that the header in the file itself tells whose it is.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; "
            f"PRAGMA user_version = {SCHEMA}; {_TABLES} COMMIT;"
        )
    use_wal(connection)


def use_wal(connection: sqlite3.Connection) -> None:
    """Change to write-ahead logging. Waits for another process that does the same."""
    ends = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:  # SQLite does not wait here by itself
            if not is_busy(error) or time.monotonic() > ends:
                raise
        time.sleep(0.01)


def _kept(answer: str | None) -> bytes | None:
    """Return the numbers behind the text of a vector."""
    return None if answer is None else binascii.a2b_base64(answer)


def _shown(kept: Kept) -> str | None:
    """Return the text of an answer as it was written."""
    return binascii.b2a_base64(kept, newline=False).decode() if isinstance(kept, bytes) else kept


def _bytes_of(kept: Kept) -> int:
    return len(kept.encode() if isinstance(kept, str) else kept or b"")


def _described(question: Question) -> tuple[int | str | None, ...]:
    return (
        question.number,
        question.function,
        question.version,
        question.model,
        question.endpoint,
        question.revision,
        question.weights,
        question.identity,
    )


def _file_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
