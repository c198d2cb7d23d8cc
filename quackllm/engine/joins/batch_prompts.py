"""Several pairs in a prompt: the question stands once, and so does a value that pairs share.

Known as batch prompting (Cheng, Kasai and Yu, "Batch Prompting: Efficient Inference with Large
Language Model APIs", EMNLP 2023). Pairs of one prompt have one value of a side in common where
that takes fewer tokens than prompts of any pairs do. The order of pairs is that of a hash of
their values: no order that means anything to a model, and the same whenever the same rows are
joined, so that the same prompts are asked.

A prompt whose answer is not one true or false for each of its pairs is asked again in halves,
down to single pairs, which the call itself is asked for.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quackllm.engine.joins.checked import UNKNOWN, OtherAnswers
from quackllm.engine.joins.position_bias import Flags
from quackllm.engine.joins.sides import NULL, JoinPairs
from quackllm.engine.reduction import USABLE, tokens_of
from quackllm.udfs.base import Answered, Ask, Inquiry
from quackllm.udfs.prompt import render_fields

MOST_TOGETHER = 10_000
"""Prompts that are written and sent as one round."""

Pairs = list[int]
"""The pairs of one prompt, by position, in the order in which it shows them."""
Question = Callable[[int], Inquiry]
"""The question about so many pairs at once."""


class Layout(Enum):
    """Which side's value the pairs of a prompt have in common, and stands once."""

    LEFT = "left"
    RIGHT = "right"
    NEITHER = "neither"


@dataclass(frozen=True)
class Values:
    """The values of one side as prompts show them.

    texts: of each value the JSON object of its fields. tokens: an estimate for each.
    empty: whether all fields of a value are NULL.
    """

    texts: list[str]
    tokens: NDArray[np.int64]
    empty: NDArray[np.bool_]

    @classmethod
    def of(cls, names: Sequence[str], fields: Sequence[pa.Array]) -> Values:
        """Write values; fields: a string array (n,) of JSON texts for each name."""
        rows = list(zip(*(field.to_pylist() for field in fields), strict=True))
        texts = [render_fields(names, row) for row in rows]
        tokens = np.array([tokens_of(text) for text in texts], np.int64)
        empty = np.array([all(value == NULL for value in row) for row in rows], bool)
        return cls(texts, tokens, empty)

    def hashes(self) -> NDArray[np.uint64]:
        """A hash (n,) of each value."""
        digests = [
            blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            for text in self.texts
        ]
        return np.frombuffer(b"".join(digests), np.uint64)


@dataclass(frozen=True)
class Batched:
    """What prompts for several pairs have said.

    said: of each pair; left over are those that the call itself has to be asked for.
    flags: the answers of prompts by their size, in the order in which pairs were shown.
    prompts: how many were asked; again: of them, those that were of no use.
    """

    said: OtherAnswers
    flags: list[Flags]
    prompts: int
    again: int


class Composer:
    """Puts the pairs of a join into prompts of at most `most` pairs and `room` tokens.

    question: estimated tokens of the question. Of a pair that is all NULL nothing is asked;
    `shown` are the others, by position.
    """

    def __init__(
        self, pairs: JoinPairs, left: Values, right: Values, most: int, question: int, room: int
    ) -> None:
        self._pairs = pairs
        self._left = left
        self._right = right
        self._most = most
        self._room = room
        empty = left.empty[pairs.at_left] & right.empty[pairs.at_right]
        self.shown = np.flatnonzero(~empty)
        self.layout = self._shortest(question)

    def _shortest(self, question: int) -> Layout:
        """The layout of the fewest tokens; without a value in common where they are equal."""
        tokens = {
            layout: self._prompts(layout) * question + self._tokens(layout)
            for layout in (Layout.NEITHER, Layout.LEFT, Layout.RIGHT)
        }
        return min(tokens, key=lambda layout: tokens[layout])

    def _sides(self, layout: Layout) -> tuple[NDArray[np.int32], Values]:
        if layout is Layout.LEFT:
            return self._pairs.at_left, self._left
        return self._pairs.at_right, self._right

    def _prompts(self, layout: Layout) -> int:
        if layout is Layout.NEITHER:
            return -(-len(self.shown) // self._most)
        counts = np.bincount(self._sides(layout)[0][self.shown])
        return int((-(-counts // self._most)).sum())

    def _tokens(self, layout: Layout) -> int:
        """Tokens of the values in all prompts."""
        both = 0
        for side in (Layout.LEFT, Layout.RIGHT):
            at, values = self._sides(side)
            counts = np.bincount(at[self.shown], minlength=len(values.tokens))
            times = -(-counts // self._most) if side is layout else counts
            both += int((times * values.tokens).sum())
        return both

    @property
    def expected_prompts(self) -> int:
        """How many prompts there are unless pairs are too long for `most` in one."""
        return self._prompts(self.layout)

    def prompts(self) -> Iterator[Pairs]:
        """Give the prompts; one of a single pair where a value has one partner, say."""
        for group in self._groups(self._in_order()):
            for part in np.array_split(group, -(-len(group) // self._most)):
                yield from self._cut(part.tolist())

    def _in_order(self) -> NDArray[np.int64]:
        """The pairs in an order that their values alone decide, and that has no meaning."""
        left = self._left.hashes()[self._pairs.at_left[self.shown]]
        right = self._right.hashes()[self._pairs.at_right[self.shown]]
        mixed = _mixed(_mixed(left) ^ right)
        found: NDArray[np.int64] = self.shown[np.lexsort((right, left, mixed))]
        return found

    def _groups(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The pairs that may stand in one prompt together."""
        if self.layout is Layout.NEITHER:
            return [order] if len(order) else []
        at = self._sides(self.layout)[0][order]
        by_value = order[np.argsort(at, kind="stable")]
        edges = np.flatnonzero(np.diff(np.sort(at))) + 1
        return np.split(by_value, edges) if len(order) else []

    def _cut(self, part: Pairs) -> Iterator[Pairs]:
        """Cut pairs that are not too many for a prompt where they are too long for it."""
        prompt: Pairs = []
        filled = 0
        for pair in part:
            size = self._size(pair, first=not prompt)
            if prompt and filled + size > self._room:
                yield prompt
                prompt, filled = [], 0
                size = self._size(pair, first=True)
            prompt.append(pair)
            filled += size
        if prompt:
            yield prompt

    def _size(self, pair: int, *, first: bool) -> int:
        """Tokens that a pair takes, as the first of its prompt or as a later one."""
        left = self._left.tokens[self._pairs.at_left[pair]]
        right = self._right.tokens[self._pairs.at_right[pair]]
        if first or self.layout is Layout.NEITHER:
            return int(left + right)
        return int(right if self.layout is Layout.LEFT else left)

    def written(self, prompt: Pairs) -> tuple[str, ...]:
        """The fields of a prompt as JSON texts: what its pairs share, if anything, and the rest."""
        numbered = ",".join(f'"{at}":{self._entry(pair)}' for at, pair in enumerate(prompt, 1))
        entries = f"{{{numbered}}}"
        if self.layout is Layout.NEITHER:
            return (entries,)
        at, values = self._sides(self.layout)
        return values.texts[int(at[prompt[0]])], entries

    def _entry(self, pair: int) -> str:
        left = self._left.texts[int(self._pairs.at_left[pair])]
        right = self._right.texts[int(self._pairs.at_right[pair])]
        if self.layout is Layout.LEFT:
            return right
        if self.layout is Layout.RIGHT:
            return left
        return f"{left[:-1]},{right[1:]}"


def room_for_pairs(window: int | None, question: int, answer: int) -> int:
    """Estimated tokens of pairs that a prompt has room for; as good as endless if unknown."""
    return 2**31 if window is None else max(0, int(USABLE * (window - question - answer)))


def ask_several(
    pairs: int, composer: Composer, question: Question, ask: Ask, exhausted: Callable[[], bool]
) -> Batched:
    """Ask about `pairs` pairs, several at a time. Raises what `Run.answer` does.

    exhausted: whether a budget leaves no room for further calls.
    """
    answers = np.full(pairs, UNKNOWN, np.int8)
    flags: dict[int, list[list[bool]]] = defaultdict(list)
    alone: Pairs = []
    asked = again = 0
    prompts = list(composer.prompts())
    while prompts:
        several = [prompt for prompt in prompts if len(prompt) > 1]
        alone += [prompt[0] for prompt in prompts if len(prompt) == 1]
        failed: list[Pairs] = []
        for prompt, answer in _asked(several, composer, question, ask):
            if isinstance(answer, str):
                said = json.loads(answer)
                answers[prompt] = said
                flags[len(prompt)].append(said)
            else:
                failed.append(prompt)
        asked += len(several)
        again += len(failed)
        in_parts = _single if exhausted() else _halves
        prompts = [part for prompt in failed for part in in_parts(prompt)]
    of_sizes = [np.array(flags[size], bool) for size in sorted(flags)]
    left_over = np.array(sorted(alone), np.int64)
    return Batched(OtherAnswers(answers, left_over), of_sizes, asked, again)


def _asked(
    prompts: Sequence[Pairs], composer: Composer, question: Question, ask: Ask
) -> Iterator[tuple[Pairs, Answered]]:
    """Ask about prompts of several pairs: those of one size are one question."""
    by_size: dict[int, list[Pairs]] = defaultdict(list)
    for prompt in prompts:
        by_size[len(prompt)].append(prompt)
    for size in sorted(by_size, reverse=True):
        asked, of_size = question(size), by_size[size]
        for start in range(0, len(of_size), MOST_TOGETHER):
            some = of_size[start : start + MOST_TOGETHER]
            yield from zip(some, ask(asked, [composer.written(p) for p in some]), strict=True)


def _halves(prompt: Pairs) -> list[Pairs]:
    middle = (len(prompt) + 1) // 2
    return [prompt[:middle], prompt[middle:]]


def _single(prompt: Pairs) -> list[Pairs]:
    return [[pair] for pair in prompt]


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread numbers (n,) over all 64 bits (the finalizer of Steele et al.'s SplitMix64)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
