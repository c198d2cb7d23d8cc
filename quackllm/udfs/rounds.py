"""Work that goes on in rounds of questions: that of many shares its rounds."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")


def in_step(
    works: Sequence[Generator[Sequence[Q], Sequence[A], R]],
    answer: Callable[[Sequence[Q]], Sequence[A]],
) -> list[R]:
    """Run generators to their ends, all that are left one round at a time; return their results.

    Each yields the questions of its round and is sent their answers. answer: answers the
    questions of a round of all of them, in their order.
    """
    results: dict[int, R] = {}
    answers: dict[int, Sequence[A] | None] = dict.fromkeys(range(len(works)))
    while answers:
        asked: dict[int, Sequence[Q]] = {}
        for at, given in answers.items():
            try:
                asked[at] = next(works[at]) if given is None else works[at].send(given)
            except StopIteration as stop:
                results[at] = stop.value
        found = iter(answer([each for some in asked.values() for each in some]) if asked else ())
        answers = {at: [next(found) for _ in some] for at, some in asked.items()}
    return [results[at] for at in range(len(works))]
