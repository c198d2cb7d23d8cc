"""Ranks from comparisons of two, asked in rounds: a quicksort that need not be finished.

A round of one segment compares all its members with one pivot, and the rounds of all
segments go together, so that there are O(log n) of them. Where only the first or the last
ranks are wanted, segments in which none of those fall stay as they are (quickselect: Hoare,
"Algorithm 65: Find", CACM 1961), which takes O(n) comparisons. Pivots come from a sample of
the segment (Floyd and Rivest, "Expected time bounds for selection", CACM 1975) that is drawn
by the hash of its members and never by what is wanted. So the same values are compared in the
same way whatever their order in the table, and the first ranks are those that the full sort
gives, also where the comparisons contradict each other.

The pivot of the segment with the first rank is one of its first members, not the middle one:
most of the others then need no second comparison to be known as too far behind.

Values whose comparison failed are set aside: they get no rank, and the others are ranked
without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from math import isqrt

from quackllm.errors import CallError
from quackllm.udfs.base import Wanted

SMALL = 5
"""Members of a segment that are compared each with each, in one round."""

SAMPLED_PER_MEMBER = 0.1
"""Comparisons inside a sample, at most, as a part of the members of its segment."""

FEWEST_SAMPLED = 3

SKEW = 8
"""In the segment with the first rank the pivot leaves this part of the sample before it."""

Pair = tuple[int, int]
Outcome = bool | CallError | None
"""Whether the first of a pair ranks before the second; a failure, or None where nothing was
answered."""

Compare = Callable[[Sequence[Pair]], Sequence[Outcome]]
"""Compares the pairs of a round; a pair that was compared before costs nothing."""

Outcomes = Mapping[Pair, Outcome]
Step = Generator[list[Pair], Outcomes, list[list[int]]]
"""Cuts a segment: asks for pairs, gets their outcomes, returns its parts in order."""


def drawn_order(texts: Sequence[str]) -> list[int]:
    """Return the positions of texts in the order of their hashes: a draw without a dice."""
    return sorted(range(len(texts)), key=lambda at: (_hash(texts[at]), texts[at]))


def is_swapped(one: str, other: str) -> bool:
    """Whether two texts are shown the other way round: drawn once for both of them.

    So a model that prefers what it sees first favours no value over all the others.
    """
    first, second = sorted((one, other))
    return bool(_hash(f"{first}\x1f{second}")[0] & 1) == (one == first)


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def sample_size(members: int) -> int:
    """Return how many members of a segment are compared with each other to find a pivot."""
    return max(FEWEST_SAMPLED, isqrt(int(2 * SAMPLED_PER_MEMBER * members)))


def pivot_place(sampled: int, is_first: bool) -> int:
    """Return which of the ordered members of a sample is the pivot."""
    return sampled // SKEW if is_first else sampled // 2


@dataclass
class _Segment:
    """Members that follow on those of the segments before; `step` is running if it is open.

    members: in the drawn order. retried: whether a pivot of it was set aside before.
    """

    members: list[int]
    retried: bool = False
    step: Step | None = None
    pairs: Sequence[Pair] = ()


class Ranking:
    """Ranks the numbers from 0 to `count` - 1, whose own order is a draw, and breaks ties.

    set_aside: the numbers that get no rank, with the failure that is the reason.
    """

    def __init__(self, count: int, wanted: Wanted) -> None:
        self.set_aside: dict[int, CallError | None] = {}
        self._count = count
        self._wanted = wanted
        self._line = [_Segment(list(range(count)))] if count else []

    def run(self, compare: Compare) -> dict[int, int]:
        """Compare until the wanted ranks are known; return the ranks that are, from 1."""
        while open_ := self._open():
            pairs = list(dict.fromkeys(pair for segment in open_ for pair in segment.pairs))
            outcomes = dict(zip(pairs, compare(pairs), strict=True))
            for segment in open_:
                self._go_on(segment, outcomes)
        if len(self.set_aside) == self._count - 1 > 0:  # the last one was compared with none
            [alone] = (segment.members[0] for segment in self._line)
            self.set_aside[alone] = next(iter(self.set_aside.values()))
            return {}
        return {
            segment.members[0]: start + 1
            for start, segment in self._placed()
            if len(segment.members) == 1
        }

    def _placed(self) -> Iterator[tuple[int, _Segment]]:
        start = 0
        for segment in self._line:
            yield start, segment
            start += len(segment.members)

    def _open(self) -> list[_Segment]:
        """Return the segments that a wanted rank falls in, each with the pairs it asks for."""
        total = self._count - len(self.set_aside)
        found = []
        for start, segment in self._placed():
            size = len(segment.members)
            if size > 1 and _is_wanted(self._wanted, start, start + size, total):
                if segment.step is None:
                    segment.step = self._cut(segment, is_first=start == 0)
                    segment.pairs = next(segment.step)
                found.append(segment)
        return found

    def _go_on(self, segment: _Segment, outcomes: Outcomes) -> None:
        """Give a segment its outcomes; put its parts in its place when it is cut."""
        assert segment.step is not None
        try:
            segment.pairs = segment.step.send(outcomes)
        except StopIteration as stop:
            parts = [_Segment(members, segment.retried) for members in stop.value if members]
            at = next(at for at, other in enumerate(self._line) if other is segment)
            self._line[at : at + 1] = parts

    def _cut(self, segment: _Segment, *, is_first: bool) -> Step:
        members = segment.members
        if len(members) <= SMALL:
            outcomes = yield list(combinations(members, 2))
            left = self._without_failed(members, outcomes)
            return [[member] for member in _by_wins(left, outcomes)]
        sample = members[: sample_size(len(members))]
        outcomes = yield list(combinations(sample, 2))
        pivot = _by_wins(sample, outcomes)[pivot_place(len(sample), is_first)]
        others = [member for member in members if member != pivot]
        outcomes = yield [_pair(pivot, member) for member in others]
        failed = {m for m in others if not isinstance(outcomes[_pair(pivot, m)], bool)}
        if 2 * len(failed) > len(others) and not segment.retried:
            segment.retried = True
            self._set_aside([pivot], outcomes)
            return [others]
        segment.retried = False
        self._set_aside(failed, outcomes)
        before = [m for m in others if m not in failed and _beats(m, pivot, outcomes)]
        behind = [m for m in others if m not in failed and not _beats(m, pivot, outcomes)]
        return [before, [pivot], behind]

    def _without_failed(self, members: Sequence[int], outcomes: Outcomes) -> list[int]:
        """Set members aside, those of most failed pairs first, until no failed pair is left."""
        left = list(members)
        while failed := [p for p in combinations(left, 2) if not isinstance(outcomes[p], bool)]:
            counts = Counter(member for pair in failed for member in pair)
            most = max(counts.values())
            self._set_aside([m for m in left if counts[m] == most], outcomes)
            left = [m for m in left if counts[m] < most]
        return left

    def _set_aside(self, members: Sequence[int] | set[int], outcomes: Outcomes) -> None:
        for member in members:
            failures = (o for pair, o in outcomes.items() if member in pair)
            self.set_aside[member] = next((o for o in failures if isinstance(o, CallError)), None)


def _pair(one: int, other: int) -> Pair:
    return (one, other) if one < other else (other, one)


def _beats(one: int, other: int, outcomes: Outcomes) -> bool:
    return outcomes[_pair(one, other)] is (one < other)


def _by_wins(members: Sequence[int], outcomes: Outcomes) -> list[int]:
    """Order members by how many of the others they rank before (Copeland's rule)."""
    wins = Counter(pair[0] if outcomes[pair] else pair[1] for pair in combinations(members, 2))
    return sorted(members, key=lambda member: (-wins[member], member))


def _is_wanted(wanted: Wanted, start: int, end: int, total: int) -> bool:
    """Whether one of the places from `start` to `end`, exclusive, is wanted of so many."""
    if wanted.is_all:
        return True
    return start < (wanted.first or 0) or end > total - (wanted.last or 0)


def expected_comparisons(count: int, wanted: Wanted) -> int:
    """Return about how many comparisons ranking takes: cuts are taken to fall as planned."""
    calls = 0
    open_ = [(0, count)]
    while open_:
        start, end = open_.pop()
        size = end - start
        if size < 2 or not _is_wanted(wanted, start, end, count):
            continue
        if size <= SMALL:
            calls += size * (size - 1) // 2
            continue
        sampled = sample_size(size)
        place = pivot_place(sampled, start == 0)
        # Of the pairs inside the sample, those with the pivot are not asked again.
        calls += size - 1 + (sampled - 1) * (sampled - 2) // 2
        before = min(size - 1, round(size * (place + 1) / (sampled + 1)))
        open_ += [(start, start + before), (start + before + 1, end)]
    return calls
