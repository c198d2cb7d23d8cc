"""Answers that outlive the process: a database of them, with memory for when it fails."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from threading import Lock

from quackllm.engine.cache.base import Answers, Claimed, Entry, Selection
from quackllm.engine.cache.claims import BEAT_SECONDS, Claims
from quackllm.engine.cache.flights import Flights
from quackllm.engine.cache.journal import Journal, left_behind
from quackllm.engine.cache.memory import MemoryCache
from quackllm.engine.cache.question import Question
from quackllm.engine.cache.store import NotOurs, Store, is_busy, is_damage, looks_like_ours
from quackllm.engine.cache.write_behind import Batch, WriteBehind
from quackllm.errors import QuackLLMError

FLUSH_PATIENCE = 10.0
"""Seconds that the end of a statement waits for its last answers to be written."""

KEPT_AFTER_EVICTION = 0.8
"""Share of the limit that eviction leaves, so that it is seldom needed."""

_UNKNOWN = "not known"  # told from an answer by identity, since None is one
_BATCHES_PER_CHECK = 50
_TOUCHES_PER_STEP = 2_000
_REPAIRS = 2


class PersistentCache:
    """An `AnswerCache` in a file that several processes may use at once.

    A file that cannot be used is told in one notice; the answers are then kept in
    memory, as long as this instance lives.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit: int,
        notify: Callable[[str], None],
        is_default: bool = False,
    ) -> None:
        """Open the file.

        limit: bytes that the answers may take before the least recently used go.
        notify: takes one line for the person.
        is_default: nobody named the file, so whatever is there in its place is ours.
        """
        self.path = path
        self._limit = limit
        self._notify = notify
        self._is_default = is_default
        self._repairs = 0
        self._memory = MemoryCache()
        self._writable = True
        self._changing = Lock()
        self._store = self._open()
        can_share = self._store is not None and self._writable
        self._claims = Claims(path, self._take_over) if can_share else None
        self._flights = Flights()
        self._stale: deque[bytes] = deque()
        self._batches = 0
        self._beaten = 0.0
        self._behind = WriteBehind(Journal(path), self._write, self._tend)
        self._take_over()

    # Looking up

    def get(self, question: Question, keys: Sequence[str]) -> Answers:
        """Return the known answers by key."""
        texts = list(keys)
        digests = question.keys(texts)
        found = self._behind.known(digests)
        found.update(self._find([d for d in digests if d not in found] if found else digests))
        by_text = zip(texts, map(found.get, digests, repeat(_UNKNOWN)), strict=True)
        answers = {key: answer for key, answer in by_text if answer is not _UNKNOWN}
        if len(self._memory):
            answers.update(self._memory.get(question, texts))
        return answers

    def _find(self, digests: Sequence[bytes]) -> dict[bytes, str | None]:
        store = self._store
        if store is None:
            return {}
        try:
            found, stale = store.find(digests)
        except sqlite3.Error as error:
            self._trouble(store, error)
            return {}
        if stale:
            self._stale.extend(stale)
            self._behind.wake()
        return found

    # Keeping

    def put(self, question: Question, key: str, answer: str | None) -> None:
        """Have an answer written down by the thread that does this."""
        [digest] = question.keys([key])
        if self._store is None or not self._writable or not _is_unicode(answer):
            self._memory.put(question, key, answer)
            if self._claims is not None:
                self._claims.end([digest])
        else:
            self._behind.add(digest, question, key, answer)
        self._flights.end([digest])

    def flush(self) -> None:
        """Wait until the answers are on the disk; say so if that takes too long."""
        if not self._behind.flush(FLUSH_PATIENCE):
            self._notify(
                f"the answer cache '{self.path}' is locked by another process: "
                "the latest answers wait in memory to be written"
            )

    def close(self) -> None:
        """Write what waits and close the file. May be called twice."""
        self.flush()
        self._behind.close(FLUSH_PATIENCE)
        if self._claims is not None:
            self._claims.close()
        with self._changing:
            store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error):
                store.close()

    # Sharing calls

    def claim(self, question: Question, keys: Sequence[str], claimant: object) -> Claimed:
        """Claim keys, among the threads of this process and then among processes."""
        texts = list(keys)
        digests = question.keys(texts)
        ours = self._flights.claim(digests, claimant)
        if self._claims is not None:
            others = self._claims.claim([digest for digest in digests if digest in ours])
            self._flights.end(others, claimant)
            ours -= others
            if ours:
                self._behind.wake()  # to show that the owner of the claims lives
        # An answer is kept before its claim ends: what is claimed now is known now.
        answers = self.get(question, texts)
        wanted = {
            key for key, d in zip(texts, digests, strict=True) if d in ours and key not in answers
        }
        self.release(question, [key for key in texts if key in answers], claimant)
        return Claimed(answers, frozenset(wanted))

    def release(self, question: Question, keys: Sequence[str], claimant: object) -> None:
        """Give up claims."""
        ended = self._flights.end(question.keys(list(keys)), claimant)
        if ended and self._claims is not None:
            self._claims.end(ended)

    # Looking into it

    def similar(self, question: Question) -> Question | None:
        """Return the question used last that differs at most in model, place and revision."""
        store = self._store
        if store is None:
            return None
        try:
            return store.similar(question)
        except sqlite3.Error as error:
            self._trouble(store, error)
            return None

    def entries(self) -> Iterator[Entry]:
        """Go through all answers, the latest first, those in memory before the others."""
        self.flush()
        yield from self._memory.entries()
        store = self._store
        if store is not None:
            with self._told("read"):
                yield from store.entries()

    def clear(self, selection: Selection) -> int:
        """Forget answers; return how many."""
        self.flush()
        self._take_over()
        gone = self._memory.clear(selection)
        store = self._store
        if store is not None:
            with self._told("cleared"):
                gone += store.clear(selection)
        return gone

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Raise `QuackLLMError` for trouble with a file that the person has asked for."""
        try:
            yield
        except sqlite3.Error as error:
            raise QuackLLMError(
                f"IO Error: the answer cache '{self.path}' cannot be {what}: {error}"
            ) from None

    # In the thread that writes

    def _write(self, batch: Batch) -> bool:
        store = self._store
        if store is not None and self._writable:
            rows = [(d, w.question.number, w.answer, w.created) for d, w in batch.items()]
            try:
                store.write({w.question for w in batch.values()}, rows)
            except (sqlite3.Error, ValueError) as error:  # ValueError: text that is no Unicode
                if not is_busy(error):
                    self._trouble(store, error)
                return False
            self._batches += 1
        else:
            for waiting in batch.values():
                self._memory.put(waiting.question, waiting.key, waiting.answer)
        if self._claims is not None:
            self._claims.end(list(batch))
        return True

    def _take_over(self) -> None:
        """Write down the answers that processes which were killed have left behind."""
        store = self._store
        if store is None or not self._writable:
            return
        try:
            for found in left_behind(self.path):
                store.write(found, [answer for answers in found.values() for answer in answers])
        except (sqlite3.Error, ValueError) as error:
            if not is_busy(error):
                self._trouble(store, error)

    def _tend(self) -> float | None:
        """Show that we live, write times of use, keep to the limit; return when to come again."""
        if self._stale or self._batches >= _BATCHES_PER_CHECK:
            self._keep_house()
        if self._claims is None or not self._claims.held:
            return 0.0 if self._stale else None
        now = time.monotonic()
        if now - self._beaten >= BEAT_SECONDS:
            self._beaten = now
            self._claims.beat()
        return 0.0 if self._stale else BEAT_SECONDS

    def _keep_house(self) -> None:
        store = self._store
        some = [self._stale.popleft() for _ in range(min(len(self._stale), _TOUCHES_PER_STEP))]
        if store is None or not self._writable:
            return
        try:
            if some:
                store.touch(some)
            if self._batches >= _BATCHES_PER_CHECK:
                self._batches = 0
                if store.size() > self._limit:
                    store.evict(int(self._limit * KEPT_AFTER_EVICTION))
        except sqlite3.Error as error:
            if not is_busy(error):
                self._trouble(store, error)

    # Trouble with the file

    def _open(self) -> Store | None:
        """Open the file; a damaged one of ours is moved aside first."""
        problem = "is damaged"
        while True:
            try:
                return Store.open(self.path)
            except NotOurs as error:
                problem = f"{error}, which stays as it is"
            except OSError as error:
                if store := self._open_to_read(error.strerror or str(error)):
                    return store
                problem = f"cannot be used ({error.strerror})"
            except sqlite3.Error as error:
                if is_damage(error):
                    if self._move_aside():
                        continue
                elif store := self._open_to_read(str(error)):
                    return store
                problem = f"cannot be used ({error})"
            self._notify(f"the answer cache '{self.path}' {problem}: answers are kept in memory")
            return None

    def _open_to_read(self, problem: str) -> Store | None:
        """Open a file that cannot be written: what is in it need not be paid for again."""
        try:
            store = Store.open_to_read(self.path)
        except (NotOurs, OSError, sqlite3.Error):
            return None
        self._writable = False
        self._notify(
            f"the answer cache '{self.path}' cannot be written ({problem}): "
            "new answers are kept in memory"
        )
        return store

    def _trouble(self, store: Store, error: sqlite3.Error | ValueError) -> None:
        """Deal with an error of a store: another file in its place, or memory only."""
        with self._changing:
            if store is not self._store or is_busy(error):
                return
            if is_damage(error):
                with suppress(sqlite3.Error):
                    store.close()
                moved = store.was_moved() or self._move_aside()
                self._store = self._open() if moved else None
                if self._store is not None:
                    return
            told, self._writable = not self._writable, False
        if not told:
            self._notify(
                f"the answer cache '{self.path}' fails ({error}): new answers are kept in memory"
            )

    def _move_aside(self) -> bool:
        """Rename a damaged file of ours; False for one that may be something else's."""
        if self._repairs >= _REPAIRS or not (self._is_default or looks_like_ours(self.path)):
            return False
        self._repairs += 1
        name = f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{self._repairs}"
        for suffix in ("-wal", "-shm", ""):
            with suppress(OSError):
                self.path.with_name(self.path.name + suffix).rename(
                    self.path.with_name(name + suffix)
                )
        self._notify(f"the answer cache '{self.path}' was damaged; it is now '{name}'")
        return True


def _is_unicode(answer: str | None) -> bool:
    """Whether a text can be written: a model may answer half of a surrogate pair."""
    if answer is None:
        return True
    try:
        answer.encode()
    except UnicodeEncodeError:
        return False
    return True
