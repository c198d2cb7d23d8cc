"""Which requests a rule hits: the same ones however a statement is planned."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from quackllm.engine.providers.base import Request

_CANONICAL = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a fault is injected.

    rate: share of the requests that it hits. Which ones depends on the request alone, so
        a second try of a request meets the same.
    anew: decide anew for each try of a request; which ones depends on the request and the
        number of the try.
    containing: only requests whose instruction or fields contain this text.
    after: number of calls that go through before the rule wakes up.
    times: number of calls that the rule hits at most; None for no limit.
    burst: (length, period): hit only the first `length` of every `period` calls.
    """

    rate: float = 1.0
    anew: bool = False
    containing: str = ""
    after: int = 0
    times: int | None = None
    burst: tuple[int, int] | None = None


_R = TypeVar("_R", bound=Rule)


class ArmedRule(Generic[_R]):
    """A rule, and how often it has hit."""

    def __init__(self, rule: _R, purpose: str) -> None:
        self.rule = rule
        self._purpose = purpose
        self._hits = 0
        self._tries: Counter[int] = Counter()

    def hits(self, request: Request, calls: int) -> bool:
        """Tell whether the rule hits this request, which is call number `calls` (from 1)."""
        rule = self.rule
        if calls <= rule.after or (rule.times is not None and self._hits >= rule.times):
            return False
        if rule.containing not in request.instruction and rule.containing not in request.fields:
            return False
        if rule.burst is not None and (calls - 1) % rule.burst[1] >= rule.burst[0]:
            return False
        if rule.rate < 1.0 and self._drawn(request) >= rule.rate:
            return False
        self._hits += 1
        return True

    def _drawn(self, request: Request) -> float:
        """Return the number in [0, 1) that the request, or this try of it, has drawn."""
        question = question_hash(request, self._purpose)
        if self.rule.anew:
            self._tries[question] += 1
            question = _hash(f"{question} {self._tries[question]}")
        return question / 2**64


class Window:
    """At most `most` events in any `seconds` of the clock."""

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._taken: deque[float] = deque()
        self._most = most

    def take(self) -> tuple[bool, int, float]:
        """Take a place. Return whether there was one, how many are left, and for how long.

        The last is the seconds until the next place is free, 0 while there are some.
        """
        now = self._clock()
        while self._taken and now - self._taken[0] >= self._seconds:
            self._taken.popleft()
        allowed = len(self._taken) < self._most
        if allowed:
            self._taken.append(now)
        left = self._most - len(self._taken)
        reset = 0.0 if left else self._taken[0] + self._seconds - now
        return allowed, left, reset


def question_hash(request: Request, purpose: str) -> int:
    """Hash instruction and fields to 64 bits; equal whatever the order of the fields."""
    fields = _CANONICAL.encode(json.loads(request.fields))
    return _hash(f"{purpose}\0{request.instruction}\0{fields}")


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")
