"""Answers of one connection, in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Lock

from quackllm.engine.cache.base import Answers, Claimed, Entry, Selection
from quackllm.engine.cache.flights import Flights
from quackllm.engine.cache.question import Question

CAPACITY = 1_000_000


class MemoryCache:
    """An `AnswerCache` that ends with its process; the least recently used go first.

    capacity: answers that are kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._answers: OrderedDict[tuple[Question, str], tuple[str | None, float]] = OrderedDict()
        self._flights = Flights()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, question: Question, keys: Sequence[str]) -> Answers:
        """Return the known answers by key."""
        found: Answers = {}
        with self._lock:
            if not self._answers:
                return found
            for key in keys:
                entry = (question, key)
                if entry in self._answers:
                    self._answers.move_to_end(entry)
                    found[key] = self._answers[entry][0]
        return found

    def put(self, question: Question, key: str, answer: str | None) -> None:
        """Keep an answer, and drop the oldest beyond the capacity."""
        with self._lock:
            self._answers[question, key] = answer, time.time()
            if len(self._answers) > self._capacity:
                self._answers.popitem(last=False)
        self._flights.end(question.keys([key]))

    def claim(self, question: Question, keys: Sequence[str], claimant: object) -> Claimed:
        """Claim keys; looks up first, since their answers may have come meanwhile."""
        digests = question.keys(list(keys))
        claimed = self._flights.claim(digests, claimant)
        ours = {key for key, digest in zip(keys, digests, strict=True) if digest in claimed}
        # An answer is kept before its claim ends: what is claimed now is known now.
        answers = self.get(question, keys)
        self.release(question, [key for key in ours if key in answers], claimant)
        return Claimed(answers, frozenset(ours - answers.keys()))

    def release(self, question: Question, keys: Sequence[str], claimant: object) -> None:
        """Give up claims."""
        self._flights.end(question.keys(list(keys)), claimant)

    def flush(self) -> None:
        """Do nothing: everything is where it is to stay."""

    def similar(self, question: Question) -> Question | None:
        """Return None: who asks knows the models that were used in this process."""
        return None

    def entries(self) -> Iterator[Entry]:
        """Go through all answers, the latest used first."""
        with self._lock:
            kept = list(self._answers.items())
        for (question, key), (answer, created) in reversed(kept):
            yield Entry(
                function=question.function,
                version=question.version,
                model=question.model,
                endpoint=question.endpoint,
                question=question.identity,
                key=question.keys([key])[0].hex(),
                answer=answer,
                created=created,
                last_used=None,
                size=len(answer.encode("utf-8", "surrogatepass")) if answer else 0,
            )

    def clear(self, selection: Selection) -> int:
        """Forget answers; return how many."""
        before = None if selection.older_than is None else time.time() - selection.older_than
        with self._lock:
            gone = [
                entry
                for entry, (_, created) in self._answers.items()
                if selection.function in (None, entry[0].function)
                and selection.model in (None, entry[0].model)
                and (before is None or created <= before)
            ]
            for entry in gone:
                del self._answers[entry]
        return len(gone)

    def close(self) -> None:
        """Do nothing."""
