"""What a cache of answers is, for the code that asks models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from quackllm.engine.cache.question import Question

Answers = dict[str, str | None]
"""By key; None is an answer, an SQL NULL that the model gave."""


@dataclass(frozen=True)
class Claimed:
    """What became of the wish to ask for some keys.

    answers: those that have an answer by now. ours: those that the claimant is to ask
    for. The rest is being asked for by somebody else.
    """

    answers: Answers = field(default_factory=dict)
    ours: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Selection:
    """Which answers to forget: all that every given condition holds for.

    older_than: seconds since the answer came.
    """

    function: str | None = None
    model: str | None = None
    older_than: float | None = None


@dataclass(frozen=True)
class Entry:
    """One answer, as llm_cache() shows it. Times are Unix seconds, None when not known.

    question: the call's identity, JSON. key: digest of question and argument values,
        hexadecimal. size: bytes of the answer.
    """

    function: str
    version: int
    model: str
    endpoint: str
    question: str
    key: str
    answer: str | None
    created: float | None
    last_used: float | None
    size: int


class AnswerCache(Protocol):
    """Where answers live between statements. Used from several threads at once.

    Nothing raises because of the place where the answers are kept: what cannot be read is
    not known, and what cannot be written stays in memory. Only `entries` and `clear`, which
    a person has asked for, raise `QuackLLMError`.
    """

    def get(self, question: Question, keys: Sequence[str]) -> Answers:
        """Return the known answers by key; absent keys are not known."""

    def put(self, question: Question, key: str, answer: str | None) -> None:
        """Keep an answer; a claim on it ends."""

    def claim(self, question: Question, keys: Sequence[str], claimant: object) -> Claimed:
        """Say that one is about to ask for keys, unless somebody else is at it.

        A claim ends with `put`, with `release`, and some seconds after the death of the
        process that has it.
        """

    def release(self, question: Question, keys: Sequence[str], claimant: object) -> None:
        """Give up claims on keys for which there will be no answer."""

    def flush(self) -> None:
        """Return when every answer is where it is to stay."""

    def similar(self, question: Question) -> Question | None:
        """Return the question used last that differs at most in model, place and revision.

        An empty model or endpoint of `question` fits every one.
        """

    def entries(self) -> Iterator[Entry]:
        """Go through all answers, the latest first."""

    def clear(self, selection: Selection) -> int:
        """Forget answers; return how many."""

    def close(self) -> None:
        """Flush, and let go of files and threads. May be called twice."""


class NoCache:
    """The cache of a call that is to use none: knows nothing, keeps nothing."""

    def get(self, question: Question, keys: Sequence[str]) -> Answers:
        """Know nothing."""
        return {}

    def put(self, question: Question, key: str, answer: str | None) -> None:
        """Keep nothing."""

    def claim(self, question: Question, keys: Sequence[str], claimant: object) -> Claimed:
        """Let everybody ask for everything."""
        return Claimed(ours=frozenset(keys))

    def release(self, question: Question, keys: Sequence[str], claimant: object) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def similar(self, question: Question) -> Question | None:
        """Know nothing."""
        return None

    def entries(self) -> Iterator[Entry]:
        """Go through nothing."""
        return iter(())

    def clear(self, selection: Selection) -> int:
        """Forget nothing."""
        return 0

    def close(self) -> None:
        """Do nothing."""
