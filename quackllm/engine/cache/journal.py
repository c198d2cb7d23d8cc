"""Answers on their way to the database, in a file that outlives the process.

A transaction in the database is worth its price for some hundred answers, an append to a file
for each. So an answer goes to the journal when it comes, and to the database with others. What
a killed process leaves in its journal goes to the database through whoever finds it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from json.encoder import encode_basestring_ascii
from pathlib import Path

from quackllm.engine.cache.question import Question
from quackllm.engine.cache.store import Answer

if sys.platform != "win32":
    import fcntl

_SUFFIX = ".arrived-"

Found = dict[Question, list[Answer]]
"""What a journal holds, by what was asked."""


class Journal:
    """The journal of one process: some files beside the database, locked while it lives.

    An answer belongs to the lot in which it came. Nothing here raises: where no file can be
    written, answers wait in memory alone. Not for use from several threads.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._works = sys.platform != "win32"  # which has no locks that end with their process
        self._current: _Segment | None = None
        self._before: list[_Segment] = []
        self._empty: list[_Segment] = []

    def append(self, digest: bytes, question: Question, answer: str | None, created: int) -> None:
        """Write an answer down; once this returns, the end of the process does it no harm."""
        if not self._works:
            return
        try:
            if self._current is None:
                self._current = self._empty.pop() if self._empty else _Segment(self._database)
            self._current.append(digest, question, answer, created)
        except OSError:  # the database will meet the same trouble, and tell it
            self._works = False

    def begin_lot(self) -> None:
        """Begin a lot; those before are about to be written to the database."""
        if self._current is not None:
            self._before.append(self._current)
            self._current = None

    def drop_lots_before(self) -> None:
        """Forget the lots before the current one: they are in the database."""
        for segment in self._before:
            try:
                segment.empty()
            except OSError:
                segment.close()
            else:
                self._empty.append(segment)
        self._before = []

    def close(self) -> None:
        """Remove the files, but leave one with answers to whoever comes next."""
        for segment in (*self._before, *self._empty, *filter(None, [self._current])):
            segment.close()
        self._current, self._before, self._empty, self._works = None, [], [], False


class _Segment:
    """One file, locked by this process."""

    def __init__(self, database: Path) -> None:
        """Make the file. Raises `OSError`."""
        self._questions: set[int] = set()
        self._size = 0
        while True:
            name = f"{database.name}{_SUFFIX}{secrets.token_hex(8)}"
            self._path = database.with_name(name)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._file = os.open(self._path, flags, 0o600)
            # Before it was locked, another process may have taken it for left behind.
            if _locked(self._file) and self._path.exists():
                return
            os.close(self._file)

    def append(self, digest: bytes, question: Question, answer: str | None, created: int) -> None:
        """Append an answer and, before the first of its question, the question."""
        number = question.number
        # Written by hand: an encoder takes longer than all the rest.
        text = "null" if answer is None else encode_basestring_ascii(answer)
        line = f'[{number},"{digest.hex()}",{text},{created}]\n'
        if number not in self._questions:
            line = json.dumps([number, asdict(question)]) + "\n" + line
            self._questions.add(number)
        written = line.encode()
        if os.write(self._file, written) < len(written):
            raise OSError("no more room for the journal")
        self._size += len(written)

    def empty(self) -> None:
        os.ftruncate(self._file, 0)
        self._questions.clear()
        self._size = 0

    def close(self) -> None:
        if not self._size:
            with suppress(OSError):
                self._path.unlink()
        os.close(self._file)


def left_behind(database: Path) -> Iterator[Found]:
    """Go through the journals of processes that are no more.

    Each is removed when the caller comes back for the next: it has written the answers by then.
    """
    if sys.platform == "win32":
        return
    for path in sorted(database.parent.glob(f"{database.name}{_SUFFIX}*")):
        try:
            file = path.open("rb")
        except OSError:  # of another user, or gone
            continue
        with file:
            if _locked(file.fileno()):
                yield _read(file.read())
                with suppress(OSError):
                    path.unlink()


def _locked(file: int) -> bool:
    """Lock a file as long as it is open; False while another process has."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(content: bytes) -> Found:
    """Read a journal; a record that was cut off in the middle is left out."""
    questions: dict[int, Question] = {}
    found: Found = defaultdict(list)
    for line in content.splitlines():
        with suppress(ValueError, TypeError, KeyError):
            match json.loads(line):
                case [int(number), dict(fields)]:
                    questions[number] = Question(**fields)
                case [int(number), str(key), str() | None as answer, int(created)]:
                    question = questions[number]
                    found[question].append((bytes.fromhex(key), question.number, answer, created))
    return dict(found)
