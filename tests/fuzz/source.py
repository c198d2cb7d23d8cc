"""Random choices, made so that a failing case shrinks to a simple one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.fuzz.cases import TableUse

T = TypeVar("T")

Below = Callable[[int], int]
"""Chooses a number from 0 to one less than its argument; where it shrinks, to 0."""

MOST_CALLS = 5
"""LLM calls in one statement; more make it slow, not stranger."""


class Source:
    """Makes choices, and keeps count of what a statement has used.

    tables: the table functions that it calls.
    """

    def __init__(self, below: Below) -> None:
        self._below = below
        self._names = 0
        self.used: Counter[str] = Counter()
        self.tables: list[TableUse] = []
        self.calls = 0

    def below(self, count: int) -> int:
        """A number from 0 to count - 1; shrinks to 0."""
        return self._below(count) if count > 1 else 0

    def chance(self, one_in: int) -> bool:
        """True about once in `one_in` times; shrinks to False."""
        return self.below(one_in) == one_in - 1

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; shrinks to the first."""
        return options[self.below(len(options))]

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Between `least` and `most` of the options, repetitions possible."""
        if not options:
            return []
        return [self.pick(options) for _ in range(least + self.below(most - least + 1))]

    def use(self, feature: str) -> None:
        """Count a feature."""
        self.used[feature] += 1

    def name(self, prefix: str) -> str:
        """A name that the statement does not have yet."""
        self._names += 1
        return f"{prefix}{self._names}"

    def may_call(self) -> bool:
        """Whether a call is made here: half of the places, up to a limit."""
        return self.calls < MOST_CALLS and not self.chance(2)
