"""Which requests a rule hits: the same ones however a statement is planned."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Request

_CANONICAL = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a fault is injected.

    rate: share of the requests that it hits. Which ones depends on the request alone.
    containing: only requests whose instruction or fields contain this text.
    after: number of calls that go through before the rule wakes up.
    times: number of calls that the rule hits at most; None for no limit.
    """

    rate: float = 1.0
    containing: str = ""
    after: int = 0
    times: int | None = None


_R = TypeVar("_R", bound=Rule)


class ArmedRule(Generic[_R]):
    """A rule, and how often it has hit."""

    def __init__(self, rule: _R, purpose: str) -> None:
        self.rule = rule
        self._purpose = purpose
        self._hits = 0

    def hits(self, request: Request, calls: int) -> bool:
        """Tell whether the rule hits this request, which is call number `calls` (from 1)."""
        rule = self.rule
        if calls <= rule.after or (rule.times is not None and self._hits >= rule.times):
            return False
        if rule.containing not in request.instruction and rule.containing not in request.fields:
            return False
        if rule.rate < 1.0 and question_hash(request, self._purpose) / 2**64 >= rule.rate:
            return False
        self._hits += 1
        return True


def question_hash(request: Request, purpose: str) -> int:
    """Hash instruction and fields to 64 bits; equal whatever the order of the fields."""
    fields = _CANONICAL.encode(json.loads(request.fields))
    question = f"{purpose}\0{request.instruction}\0{fields}"
    digest = hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")
