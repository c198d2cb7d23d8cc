"""The topics of texts: groups of near vectors, each with a name that a model gives it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quackllm.clustering.choice import choose_k
from quackllm.clustering.directions import Vectors
from quackllm.clustering.kmeans import kmeans
from quackllm.errors import InvalidAnswer
from quackllm.udfs.base import Answered, Ask, Declaration, FreeText, Inquiry
from quackllm.udfs.prompt import DATA_NOTE

EXAMPLES = 8
"""Texts that a model is shown of a group to name it: those nearest to its centre."""

LONGEST_EXAMPLE = 400
"""Characters of a text that are shown for that."""

FITTED = 10_000
"""Vectors that the centres are found from, at most; every further one joins the nearest."""

LONGEST_NAME = 80

_TASK = "The texts in the data belong to one topic. Name it in one to four words"
_END = f"{DATA_NOTE}\nReply with the name only."


@dataclass(frozen=True)
class Topics:
    """Groups of n vectors.

    labels: (n,), the group of each, from 0 on. examples: of each group the positions of the
    vectors nearest to its centre, the nearest first.
    """

    labels: NDArray[np.int64]
    examples: tuple[tuple[int, ...], ...]


def find_topics(vectors: Vectors, k: int | None) -> Topics:
    """Group vectors (n, dimensions) of length 1; n is not 0.

    k: how many groups there are at most, None to choose a number that suits them. The order
    of the vectors must not mean anything.
    """
    some = vectors[:: -(-len(vectors) // FITTED)]
    centres = kmeans(some, choose_k(some) if k is None else k).centres
    cosines = vectors @ centres.T
    labels = np.argmax(cosines, axis=1).astype(np.int64)
    examples = []
    for group in range(len(centres)):
        members = np.flatnonzero(labels == group)
        nearest = np.argsort(-cosines[members, group], kind="stable")[:EXAMPLES]
        examples.append(tuple(members[nearest].tolist()))
    return Topics(labels, tuple(examples))


def read_name(text: str) -> str:
    """Read the name of a topic: one line without quotes. Raises `InvalidAnswer` for nothing."""
    lines = [line for line in text.splitlines() if line.strip()]
    name = " ".join(lines[0].split()).strip(" \"'`*.:") if lines else ""
    if not any(letter.isalnum() for letter in name):
        raise InvalidAnswer("the name of a topic has no letters")
    return name[:LONGEST_NAME].strip()


def _naming(how: str, *fields: str) -> Inquiry:
    """Return a question for the name of a topic; `how` ends its first sentence."""
    declaration = Declaration(
        instruction=f"{_TASK}{how}.\n{_END}",
        returns="VARCHAR",
        answer=FreeText(),
        parse=read_name,
        max_tokens=24,
    )
    return Inquiry("name", fields, declaration)


NAME = _naming("", "texts")
NAME_APART = _naming(', by what tells them from the topics in "others"', "texts", "others")


def name_topics(groups: Sequence[Sequence[str]], ask: Ask) -> list[Answered]:
    """Have each group named, from the JSON texts of its examples.

    Of groups with the same name all but the first are asked again, for what tells them
    apart; groups that have one name even then are one topic.
    """
    shown = [json.dumps([_cut(text) for text in group], ensure_ascii=False) for group in groups]
    names = _in_one_spelling(ask(NAME, [(text,) for text in shown]))
    again = [at for at, name in enumerate(names) if isinstance(name, str) and name in names[:at]]
    if again:
        taken = sorted({name for name in names if isinstance(name, str)})
        others = json.dumps(taken, ensure_ascii=False)
        found = ask(NAME_APART, [(shown[at], others) for at in again])
        for at, name in zip(again, found, strict=True):
            if isinstance(name, str):
                names[at] = name
    return _in_one_spelling(names)


def _cut(text: str) -> object:
    value = json.loads(text)
    shown = value if isinstance(value, str) else text
    return shown[:LONGEST_EXAMPLE]


def _in_one_spelling(names: Sequence[Answered]) -> list[Answered]:
    """Write equal names as the first of them is: labels must differ in more than case."""
    first: dict[str, str] = {}
    return [
        first.setdefault(name.casefold(), name) if isinstance(name, str) else name for name in names
    ]
