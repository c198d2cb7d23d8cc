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
most of the others then need no second comparison to be known as too far behind. Likewise at the
other end, of all segments but the whole: it can have one pivot only, and top-k is asked for more.

Few values are compared each with each. Where of those only the first or the last is wanted,
a knockout finds it, and comparisons with all that it did not meet confirm it.

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
from typing import Literal, TypeVar

from quackllm.errors import CallError
from quackllm.udfs.base import Wanted
from quackllm.udfs.rounds import in_step

SMALL = 5
"""Members of a segment that are compared each with each, in one round."""

SAMPLED_PER_MEMBER = 0.1
"""Comparisons inside a sample, at most, as a part of the members of its segment."""

FEWEST_SAMPLED = 3

SKEW = 8
"""In the segment with the first rank the pivot leaves this part of the sample before it, in that
with the last one behind it."""

Pair = tuple[int, int]
Outcome = bool | CallError | None
"""Whether the first of a pair ranks before the second; a failure, or None where nothing was
answered."""

Compare = Callable[[Sequence[Pair]], Sequence[Outcome]]
"""Compares the pairs of a round; a pair that was compared before costs nothing."""

Outcomes = Mapping[Pair, Outcome]
Step = Generator[list[Pair], Outcomes, list[list[int]]]
"""Cuts a segment: asks for pairs, gets their outcomes, returns its parts in order."""

End = Literal["first", "last"]
"""Of places in a row one of the two at its ends."""

Pivot = Literal["early", "middle", "late"]
"""Of the ordered members of a sample one of the first, the middle one, or one of the last."""

N = TypeVar("N")
RanksOf = Generator[Sequence[tuple[N, N]], Sequence[Outcome], Mapping[int, int]]
"""Ranks: asks for the pairs of a round by name, gets their outcomes, returns ranks by number."""

EndOf = Generator[Sequence[tuple[N, N]], Sequence[Outcome], N | CallError | None]
"""Likewise, returns a name; a failure, or None for nothing, where it cannot be told."""


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


def pivot_of(start: int, end: int, total: int) -> Pivot:
    """Return which of the ordered members of a sample cuts the places from start to end, exclusive.

    One of the last ones in the segment with the last rank, unless it may as well be asked for
    the first ranks, since the cut before it has left few of them in front.
    """
    if start == 0:
        return "early"
    return "late" if end == total and start * 2 * SKEW >= end - start else "middle"


def pivot_place(sampled: int, pivot: Pivot) -> int:
    """Return the place of a pivot among the ordered members of a sample."""
    early = sampled // SKEW
    return {"early": early, "middle": sampled // 2, "late": sampled - 1 - early}[pivot]


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

    def run(self, compare: Compare) -> Mapping[int, int]:
        """Compare until the wanted ranks are known; return the ranks that are, from 1."""
        [ranks] = in_step([self.rounds(range(self._count))], compare)
        return ranks

    def rounds(self, names: Sequence[N]) -> RanksOf[N]:
        """Ask round by round until the wanted ranks are known; return the ranks that are, from 1.

        names: what each number stands for.
        """
        while open_ := self._open():
            pairs = list(dict.fromkeys(pair for segment in open_ for pair in segment.pairs))
            found = yield [(names[one], names[other]) for one, other in pairs]
            outcomes = dict(zip(pairs, found, strict=True))
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
                    end = _only_end(self._wanted, start, start + size, total)
                    segment.step = self._cut(segment, end, pivot_of(start, start + size, total))
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

    def _cut(self, segment: _Segment, end: End | None, pivot_at: Pivot) -> Step:
        """Cut a segment; `end` is the one of its places that is wanted, where one end is."""
        members = segment.members
        if len(members) <= SMALL:
            found = None if end is None else (yield from _knockout(members, end))
            if found is not None:
                rest = [member for member in members if member != found]
                return [[found], rest] if end == "first" else [rest, [found]]
            outcomes = yield list(combinations(members, 2))
            left = self._without_failed(members, outcomes)
            return [[member] for member in _by_wins(left, outcomes)]
        sample = members[: sample_size(len(members))]
        outcomes = yield list(combinations(sample, 2))
        place = pivot_place(len(sample), pivot_at)
        pivot = _by_wins(sample, outcomes)[place]
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


def _knockout(members: Sequence[int], end: End) -> Generator[list[Pair], Outcomes, int | None]:
    """Find the member that ranks before all others, or behind them, whatever those do.

    None where there is none, or where it cannot be told since a comparison failed.
    """
    known: dict[Pair, Outcome] = {}
    left = list(members)
    while len(left) > 1:
        pairs = [_pair(*two) for two in zip(left[::2], left[1::2], strict=False)]
        outcomes = yield pairs
        known.update((pair, outcomes[pair]) for pair in pairs)
        if not all(isinstance(known[pair], bool) for pair in pairs):
            return None
        on = [pair[0] if known[pair] is (end == "first") else pair[1] for pair in pairs]
        left = [*on, *left[2 * len(pairs) :]]
    [found] = left
    against = [_pair(found, member) for member in members if member != found]
    missing = [pair for pair in against if pair not in known]
    if missing:
        outcomes = yield missing
        known.update((pair, outcomes[pair]) for pair in missing)
    wins = (known[pair] is _outcome_for(found, pair, end) for pair in against)
    return found if all(wins) else None


def end_of(names: Sequence[N], end: End) -> EndOf[N]:
    """Find the one of the first or of the last rank, names being in a drawn order.

    One that had to be set aside may be the one that is looked for, so what is found is
    compared with it directly. Where that leaves a doubt, the failure is the result.
    """
    ranking = Ranking(len(names), wanted_of(end))
    ranks = yield from ranking.rounds(names)
    place = 1 if end == "first" else len(names) - len(ranking.set_aside)
    found = next((number for number, rank in ranks.items() if rank == place), None)
    if found is None:
        return next(iter(ranking.set_aside.values()), None)
    pairs = [_pair(found, other) for other in ranking.set_aside]
    outcomes = (yield [(names[one], names[other]) for one, other in pairs]) if pairs else ()
    for pair, outcome, failure in zip(pairs, outcomes, ranking.set_aside.values(), strict=True):
        if outcome is not _outcome_for(found, pair, end):
            return outcome if isinstance(outcome, CallError) else failure
    return names[found]


def wanted_of(end: End) -> Wanted:
    """Return what ranks are wanted where it is one end of them."""
    return Wanted(first=1) if end == "first" else Wanted(last=1)


def _outcome_for(found: int, pair: Pair, end: End) -> bool:
    """The outcome of a pair by which the one that was found in it is at an end of the two."""
    return (pair[0] == found) is (end == "first")


def _only_end(wanted: Wanted, start: int, stop: int, total: int) -> End | None:
    """Which end of the places from `start` to `stop`, exclusive, is all that is wanted of them."""
    if wanted.is_all:
        return None
    in_front = min(stop, wanted.first or 0) - start
    behind = stop - max(start, total - (wanted.last or 0))
    if in_front == 1 and behind <= 0:
        return "first"
    return "last" if behind == 1 and in_front <= 0 else None


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
            one = _only_end(wanted, start, end, count) is not None
            calls += size - 1 + (size > 3) if one else size * (size - 1) // 2
            continue
        sampled = sample_size(size)
        place = pivot_place(sampled, pivot_of(start, end, count))
        # Of the pairs inside the sample, those with the pivot are not asked again.
        calls += size - 1 + (sampled - 1) * (sampled - 2) // 2
        before = min(size - 1, round(size * (place + 1) / (sampled + 1)))
        open_ += [(start, start + before), (start + before + 1, end)]
    return calls
