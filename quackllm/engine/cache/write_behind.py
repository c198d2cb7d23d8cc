"""A thread that writes answers down in batches, so that no call waits for the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from quackllm.engine.cache.journal import Journal
from quackllm.engine.cache.question import Question

FLUSH_SECONDS = 0.25
FLUSH_ROWS = 1_000
"""An answer waits no longer than this, and no more answers than these wait."""

_IDLE_SECONDS = 2.0


class Written(NamedTuple):  # made for every answer, in a third of a frozen dataclass's time
    """An answer on its way to the disk."""

    question: Question
    key: str
    answer: str | None
    created: int


Batch = dict[bytes, Written]
"""By the digest of the answer's key."""


class WriteBehind:
    """Takes answers from any thread; its own thread runs while there is something to do.

    write: writes a batch down; False to be given it again with what has come since.
    journal: is given every answer first, so that it outlives the process.
    tend: called by the thread between batches and while it waits; returns the seconds
        until it wants to be called again, None when it has nothing to do.
    """

    def __init__(
        self, journal: Journal, write: Callable[[Batch], bool], tend: Callable[[], float | None]
    ) -> None:
        self._journal = journal
        self._write = write
        self._tend = tend
        self._waiting: Batch = {}
        self._writing: Batch = {}
        self._due = 0.0
        self._taken = self._done = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def add(self, digest: bytes, question: Question, key: str, answer: str | None) -> None:
        """Have an answer written; `digest` is that of the key."""
        created = int(time.time())
        with self._changed:
            self._journal.append(digest, question, answer, created)
            if not self._waiting:
                self._due = time.monotonic() + FLUSH_SECONDS
            self._waiting[digest] = Written(question, key, answer, created)
            if self._thread is None:
                self._start()
            elif len(self._waiting) in (1, FLUSH_ROWS):
                self._changed.notify_all()

    def wake(self) -> None:
        """Have `tend` called soon."""
        with self._changed:
            if self._thread is None:
                self._start()

    def known(self, digests: Iterable[bytes]) -> dict[bytes, str | None]:
        """Return the answers among those that are not written yet."""
        with self._changed:
            if not self._waiting and not self._writing:
                return {}
            both = {**self._writing, **self._waiting}
        return {digest: both[digest].answer for digest in digests if digest in both}

    def flush(self, seconds: float) -> bool:
        """Wait until what was added is written, but not for longer than `seconds`."""
        with self._changed:
            ticket = self._taken + bool(self._waiting)
            self._due = 0.0
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= ticket, seconds)

    def close(self, seconds: float) -> None:
        """Have the thread end when nothing waits, and wait for that at most `seconds`."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        with self._changed:
            self._journal.close()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="quackllm-answers", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause: float | None = 0.0
        while True:
            batch = self._next_batch(_IDLE_SECONDS if pause is None else pause)
            if batch:
                self._finish(batch, self._write(batch))
            pause = self._tend()
            with self._changed:
                idle = self._closed or (not batch and pause is None)
                if idle and not self._waiting:
                    self._thread = None
                    return

    def _next_batch(self, pause: float) -> Batch:
        """Wait for a batch that is due, at most `pause` seconds; it may be empty."""
        ends = time.monotonic() + pause
        with self._changed:
            while True:
                now = time.monotonic()
                if self._waiting and (now >= self._due or len(self._waiting) >= FLUSH_ROWS):
                    break
                if now >= ends or (self._closed and not self._waiting):
                    return {}
                self._changed.wait(min(ends, self._due if self._waiting else ends) - now)
            self._journal.begin_lot()
            self._writing, self._waiting = self._waiting, {}
            self._taken += 1
            return self._writing

    def _finish(self, batch: Batch, written: bool) -> None:
        with self._changed:
            self._writing = {}
            if written:
                self._done = self._taken
                self._journal.drop_lots_before()
                self._changed.notify_all()
            else:
                self._waiting = {**batch, **self._waiting}
                self._due = time.monotonic() + FLUSH_SECONDS
