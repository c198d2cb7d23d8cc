"""A table of rendered fields as integers: what every algorithm here works on.

Texts are looked at once. Afterwards a value is its rank among the distinct texts of
its column, and all that matters of a text is how long its fragment is and how much
of it equals the fragment one rank below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder._text import TextPool, rank_texts

TokenCounter = Callable[[list[str]], Sequence[int] | NDArray[Any]]

_FINE = 64
"""Units per token where a token is not a whole number of characters."""

CHARS_PER_TOKEN = 4.0
"""Characters per token of English text, where nobody knows better."""

_COUNTED = 2048
"""Fragments per column given to a token counter; the rest are scaled from these."""


@dataclass(frozen=True)
class Field:
    """One field of all prompts, already rendered.

    A row shows it as `head + value + tail`. `values` is a pyarrow string array or a
    sequence of `str`, of length n and without nulls: a NULL has a text too, the one
    the model is shown. Heads of different fields must not be equal; with an empty
    head (values without keys) equal values of two fields are still not matched.
    `chars_per_token`: of this field, before that of the measure; None for the latter.
    """

    name: str
    values: Any
    head: str = ""
    tail: str = ""
    chars_per_token: float | None = None


@dataclass(frozen=True)
class Measure:
    """How long a text is.

    With neither argument, in characters. With `chars_per_token`, in tokens of that
    many characters. With `counter` (list of texts → their token counts), in the
    tokens it counts: per column at most 2,048 fragments and as many prefixes are
    counted, evenly spaced in sorted order, and the others scaled by their characters.
    With `squared`, whole values only, each as its characters squared: the measure of
    the GGR paper, where a value that is equal in part counts nothing.
    """

    chars_per_token: float | None = None
    counter: TokenCounter | None = None
    squared: bool = False

    def __post_init__(self) -> None:
        if self.chars_per_token is not None and not self.chars_per_token > 0:
            raise ValueError(f"chars_per_token must be positive, not {self.chars_per_token!r}")
        if self.squared and (self.counter is not None or self.chars_per_token is not None):
            raise ValueError("squares are of characters: no counter and no chars_per_token")

    @property
    def units_per_token(self) -> int:
        """Integer units in one token (one character where characters are measured)."""
        if self.counter is not None:
            return _FINE
        if self.chars_per_token is None:
            return 1
        whole = int(self.chars_per_token)
        return whole if whole == self.chars_per_token else _FINE


@dataclass(frozen=True)
class Encoded:
    """n rows of m fields as ranks, and the lengths behind the ranks, in units.

    `codes` (m, n): rank of each value among the distinct values of its column;
    the flat code of a value is `offsets[column] + rank`. `length` and `shared`
    (all distinct values,): units of the fragment, and units of the prefix it has in
    common with the fragment one rank below it in its column (0 for the first).
    `heads` (m, m): units that fragments of two different columns have in common;
    `column_rank` (m,): rank of each column by its head, so that (column rank, rank)
    compares fragments as texts do. `characters` (all distinct values,): those of the
    value alone, which is what published algorithms measure.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    length: NDArray[np.int64]
    shared: NDArray[np.int64]
    heads: NDArray[np.int64]
    column_rank: NDArray[np.int64]
    units_per_token: int
    characters: NDArray[np.int64]
    _minima: list[NDArray[Any]] = field(default_factory=list, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Number of rows, n."""
        return int(self.codes.shape[1])

    @property
    def columns(self) -> int:
        """Number of fields, m."""
        return int(self.codes.shape[0])

    @property
    def distinct(self) -> NDArray[np.int64]:
        """Distinct values per column, shape (m,)."""
        return np.diff(self.offsets)

    @property
    def row_length(self) -> NDArray[np.int64]:
        """Units of each row, shape (n,)."""
        total = np.zeros(self.rows, np.int64)
        for column in range(self.columns):
            total += self.length[self.codes[column] + self.offsets[column]]
        return total

    def select(self, rows: NDArray[np.int64]) -> Encoded:
        """The same values for these rows only, in this order."""
        # `take` and not an index: the algorithms read whole columns in one piece.
        return replace(self, codes=np.take(self.codes, rows, axis=1))

    def common(self, low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.int64]:
        """Units that two different values of a column share as a prefix.

        `low < high` are flat codes of equal shape, pairwise of one column. In sorted
        order the common prefix of two texts is the least one between neighbours on
        the way from one to the other: a range minimum, read off two overlapping
        windows whose length is a power of two.
        """
        if not low.size:
            return np.zeros(low.shape, np.int64)
        gap = high - low
        if gap.max() == 1:
            near: NDArray[np.int64] = self.shared[high]
            return near
        level = np.frexp(gap.astype(np.float64))[1] - 1
        minima = self._levels(int(level.max()) + 1).ravel()
        row = level * len(self.shared)
        left, right = minima[row + low + 1], minima[row + high + 1 - (1 << level)]
        least: NDArray[np.int64] = np.minimum(left, right).astype(np.int64)
        return least

    def _levels(self, count: int) -> NDArray[Any]:
        """Least `shared` of every window of 1, 2, 4, ... values, shape (count or more, d)."""
        if not self._minima or len(self._minima[0]) < count:
            kind = np.int32 if self.shared.max() < 1 << 31 else np.int64
            levels = np.empty((count, len(self.shared)), kind)
            levels[0] = self.shared
            for step in range(1, count):
                half = 1 << (step - 1)
                levels[step] = levels[step - 1]
                np.minimum(
                    levels[step - 1, :-half], levels[step - 1, half:], out=levels[step, :-half]
                )
            self._minima[:] = [levels]
        return self._minima[0]


def encode(fields: Sequence[Field], measure: Measure) -> Encoded:
    """Factorise, rank and measure the fields once.

    Raises ValueError when fields differ in length, contain nulls, or share a name or a head.
    """
    _check(fields)
    ranks: list[NDArray[np.int32]] = []
    lengths: list[NDArray[np.int64]] = []
    characters: list[NDArray[np.int64]] = []
    shared: list[NDArray[np.int64]] = []
    for item in fields:
        rank, pool = rank_texts(item.values)
        sizes = pool.characters_and_prefixes()
        length, common = _measure(item, pool, sizes, measure)
        characters.append(sizes[0])
        ranks.append(rank)
        lengths.append(length)
        shared.append(common)
    empty = np.zeros(0, np.int64)
    heads, column_rank = _heads(fields, measure)
    return Encoded(
        names=tuple(item.name for item in fields),
        codes=np.stack(ranks) if ranks else np.zeros((0, 0), np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(part) for part in lengths])]).astype(np.int64),
        length=np.concatenate([empty, *lengths]),
        shared=np.concatenate([empty, *shared]),
        heads=heads,
        column_rank=column_rank,
        units_per_token=measure.units_per_token,
        characters=np.concatenate([empty, *characters]),
    )


def _check(fields: Sequence[Field]) -> None:
    names = [item.name for item in fields]
    if len(set(names)) < len(names):
        raise ValueError(f"field names must differ: {names}")
    heads = [item.head for item in fields if item.head]
    if len(set(heads)) < len(heads):
        raise ValueError(f"heads of fields must differ: {heads}")
    nulls = [item.name for item in fields if getattr(item.values, "null_count", 0)]
    if nulls:
        raise ValueError(f"a NULL must be rendered as the text a model sees: {nulls}")
    sizes = {item.name: len(item.values) for item in fields}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"fields must have the same number of rows: {sizes}")


def _measure(
    item: Field,
    pool: TextPool,
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]],
    measure: Measure,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Length of each fragment, and of its prefix shared with the one before, in units."""
    characters = sizes[0] + len(item.head) + len(item.tail)
    common = sizes[1] + len(item.head)
    common[:1] = 0
    if measure.squared:
        return characters**2, np.zeros_like(common)
    if measure.counter is None:
        own = item.chars_per_token
        return _units(characters, measure, own), _units(common, measure, own)
    return _counted(item, pool, (characters, common), measure.counter)


def _units(
    characters: NDArray[np.int64], measure: Measure, own: float | None = None
) -> NDArray[np.int64]:
    if measure.chars_per_token is None:
        return characters
    per_token, units = own or measure.chars_per_token, measure.units_per_token
    if per_token == units:
        return characters
    scaled: NDArray[np.int64] = np.rint(characters * (units / per_token)).astype(np.int64)
    return scaled


def _counted(
    item: Field,
    pool: TextPool,
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]],
    counter: TokenCounter,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of fragments and of shared prefixes, in units, by counting tokens.

    `sizes` are the same in characters. Some fragments and their prefixes are counted,
    the rest scaled from them; a token that two texts share in part is not shared.
    """
    total = len(pool)
    chosen = np.unique(np.linspace(0, total - 1, min(total, _COUNTED)).astype(np.int64))
    texts = [item.head + pool.text(index) + item.tail for index in chosen.tolist()]
    parts = [text[:end] for text, end in zip(texts, sizes[1][chosen].tolist(), strict=True)]
    # Tokenizers cut across joints: count each text behind the end of a field, as in a prompt.
    asked = [item.tail + text for text in ["", *texts, *parts]]
    counts = np.asarray(counter(asked), np.float64)
    if counts.shape != (len(asked),):
        raise ValueError(f"the token counter gave {counts.shape} counts for {len(asked)} texts")
    counts = np.maximum(counts[1:] - counts[0], 0)
    result = []
    for length, counted in zip(sizes, np.split(counts, 2), strict=True):
        tokens = length * (counted.sum() / max(int(length[chosen].sum()), 1))
        tokens[chosen] = counted
        result.append(tokens)
    whole, shared = result
    # A prefix may end inside a token, or in shorter tokens than the whole text has there.
    shared = np.floor(np.minimum(shared, whole))
    return (np.rint(whole * _FINE).astype(np.int64), shared.astype(np.int64) * _FINE)


def _same(a: str, b: str) -> int:
    """Characters of the common prefix."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((at for at, (x, y) in pairs if x != y), min(len(a), len(b)))


def _heads(
    fields: Sequence[Field], measure: Measure
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Common prefix of every two heads, in units, and the rank of each head."""
    size = len(fields)
    common = np.zeros((size, size), np.int64)
    for i in range(size):
        for j in range(i):
            common[i, j] = _same(fields[i].head, fields[j].head)
    common += common.T
    if measure.counter is not None or measure.squared:
        common[:] = 0  # Shorter than a token, or no whole value.
    rank = np.empty(size, np.int64)
    rank[sorted(range(size), key=lambda i: (fields[i].head, i))] = np.arange(size)
    return _units(common, measure), rank
