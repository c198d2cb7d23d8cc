"""Statements that need the same answer at once, in any thread or process, share one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from quackllm.engine.cache import AnswerCache, Question
from quackllm.engine.cache.base import Answers

POLL_SECONDS = 0.05
"""How often a statement looks whether others have answered what it needs."""

LEAST_AHEAD = 16
"""Keys that are claimed at once, at least: a claim of many costs little more than of one."""


class SharedCalls:
    """One round of questions, of which others may be asking some.

    waiting: positions of keys that somebody else is asking for.
    """

    def __init__(
        self,
        cache: AnswerCache,
        question: Question,
        learn: Callable[[Answers], None],
    ) -> None:
        """Make a round; `learn` takes the answers that others have given meanwhile."""
        self.waiting: list[int] = []
        self._cache = cache
        self._question = question
        self._learn = learn
        self._keys: Sequence[str] = ()
        self._ahead = LEAST_AHEAD
        self._claimed: set[str] = set()

    def begin(self, keys: Sequence[str], in_flight: int) -> None:
        """Say what the round is about.

        keys: in the order of sending. in_flight: how many calls are made at once, and so
            how many keys are claimed before their turn: what is claimed and not yet sent
            is what others wait for longest.
        """
        self._keys = keys
        self._ahead = max(in_flight, LEAST_AHEAD)

    def ours(self, positions: Iterable[int]) -> Iterator[int]:
        """Yield those positions whose keys are ours to ask for; others go to `waiting`."""
        return self._among(positions)

    def ours_by_now(self) -> Iterator[int]:
        """Try again for what was waited for: yield what others have given up."""
        waited, self.waiting = self.waiting, []
        return self._among(waited)

    def _among(self, positions: Iterable[int]) -> Iterator[int]:
        positions = iter(positions)
        while some := list(islice(positions, self._ahead)):
            keys = [self._keys[position] for position in some]
            claimed = self._cache.claim(self._question, keys, self)
            self._claimed |= claimed.ours
            if claimed.answers:
                self._learn(claimed.answers)
            for position, key in zip(some, keys, strict=True):
                if key in claimed.ours:
                    yield position
                elif key not in claimed.answers:
                    self.waiting.append(position)

    def answered(self, key: str, answer: str | None) -> None:
        """Keep the answer to a key of ours."""
        self._claimed.discard(key)
        self._cache.put(self._question, key, answer)

    def failed(self, key: str) -> None:
        """Leave a key of ours, without an answer, to whoever waits for it."""
        self._claimed.discard(key)
        self._cache.release(self._question, [key], self)

    def close(self) -> None:
        """Give up what was claimed and not asked."""
        self._cache.release(self._question, list(self._claimed), self)
        self._claimed.clear()
