"""Answers that are already there, so that nothing is asked twice.

The key of an answer holds all that determines it: the call's identity, the model and
where it runs, and the fields by name. Failures are never kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol


@dataclass(frozen=True)
class Question:
    """What the rows of one stage have in common: a call's identity and the model."""

    identity: str
    endpoint: str
    model: str


class AnswerCache(Protocol):
    """Where answers live between statements. Used from several threads at once."""

    def get(self, question: Question, keys: Sequence[str]) -> dict[str, str | None]:
        """Return the known answers by key; absent keys are not known."""

    def put(self, question: Question, key: str, answer: str | None) -> None:
        """Keep an answer; None is an answer, an SQL NULL that the model gave."""


class MemoryCache:
    """Answers of one connection, in memory; the least recently used go first."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self._capacity = capacity
        self._answers: OrderedDict[tuple[Question, str], str | None] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, question: Question, keys: Sequence[str]) -> dict[str, str | None]:
        """Return the known answers by key."""
        found: dict[str, str | None] = {}
        with self._lock:
            if not self._answers:
                return found
            for key in keys:
                entry = (question, key)
                if entry in self._answers:
                    self._answers.move_to_end(entry)
                    found[key] = self._answers[entry]
        return found

    def put(self, question: Question, key: str, answer: str | None) -> None:
        """Keep an answer, and drop the oldest beyond the capacity."""
        with self._lock:
            self._answers[question, key] = answer
            if len(self._answers) > self._capacity:
                self._answers.popitem(last=False)
