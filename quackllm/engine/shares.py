"""Who sends what, where several endpoints serve one model."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

from quackllm.engine.prefix_groups import PrefixGroup

LEAST_SPLIT = 8
"""Rows of a group below which it stays on one endpoint."""

_SLACK = 1.25  # more than an even share, so that most groups stay where their hash says


def even_share(rows: int, members: int) -> int:
    """Return how many rows one of several members may have at home; together they have all."""
    if members == 1:
        return rows
    return max(math.ceil(rows / members), int(_SLACK * rows / members))


class Shares:
    """The positions of one round, shared out among members as they ask for more.

    A group of rows that share a prefix is at home with one member, the same one in every
    round, whose cache has the prefix (rendezvous hashing: Thaler and Ravishankar 1998); with
    the next one by its hash where that one has its share of the round (consistent hashing
    with bounded loads: Mirrokni, Thorup and Zadimoghaddam 2018).

    A member that has nothing left takes a whole group of whoever has most left, and when
    there is none, the later half of the largest group that is being sent. What the other one
    could send at once is left to it.

    A member that is lost gives back what it has not answered. For one event loop.
    """

    def __init__(
        self,
        groups: Iterable[PrefixGroup],
        members: Sequence[str],
        *,
        free: Callable[[int], int] = lambda _: 0,
        ours: Callable[[Iterable[int]], Iterator[int]] = iter,
    ) -> None:
        """Share out groups.

        members: a name of each, such as its address.
        free: how many calls a member could send now, besides those in flight.
        ours: yields those of some positions that have to be sent at all.
        """
        self.alive = set(range(len(members)))
        self._free = free
        self._of_ours = ours
        self._queues: list[deque[range]] = [deque() for _ in members]
        self._left = [0] * len(members)
        self._current = [range(0)] * len(members)
        self._unanswered: list[set[int]] = [set() for _ in members]
        self._orphans: deque[Iterator[int]] = deque()
        self._again: deque[int] = deque()
        self._sent_again: set[int] = set()
        self._closed = False
        self._share_out(list(groups), members)
        self._turns = [ours(self._positions(member)) for member in range(len(members))]

    def _share_out(self, groups: Sequence[PrefixGroup], members: Sequence[str]) -> None:
        most = even_share(sum(len(group.positions) for group in groups), len(members))
        loads = [0] * len(members)
        homes: dict[range, int] = {}
        # By name: another order of the same groups is shared out alike.
        for group in sorted(groups, key=lambda group: group.name):
            rows = len(group.positions)
            fitting = [m for m in self.alive if loads[m] + rows <= most]
            candidates = fitting or [m for m in self.alive if loads[m] == min(loads)]
            home = max(candidates, key=lambda m: _weight(members[m], group.name))
            homes[group.positions] = home
            loads[home] += rows
        for group in groups:
            self._give(homes[group.positions], group.positions)

    @property
    def returned(self) -> bool:
        """Whether something that a lost member had may still have to be sent."""
        return bool(self._again or self._orphans)

    @property
    def has_more(self) -> bool:
        """Whether a member that had nothing left would be given something now."""
        return self.returned or (not self._closed and self._richest() is not None)

    @property
    def turns(self) -> Sequence[Iterator[int]]:
        """What each member is to send first: what it has at home and has to be sent, in order."""
        return self._turns

    def begin(self, turns: Sequence[Iterator[int]]) -> None:
        """Have each member send something else first."""
        self._turns = list(turns)

    def sent_by(self, member: int) -> Iterator[int]:
        """Yield what a member sends: what was given back, its turn, what others have left.

        Each position is decided on when it is asked for.
        """
        while (position := self._next(member)) is not None:
            self._unanswered[member].add(position)
            yield position

    def _next(self, member: int) -> int | None:
        if self._again:
            position = self._again.popleft()
            self._sent_again.add(position)
            return position
        if self._closed:
            return None
        found = next(self._turns[member], None)
        while found is None and (richest := self._richest()) is not None:
            self._give(member, self._take(richest))
            self._turns[member] = self._of_ours(self._positions(member))
            found = next(self._turns[member], None)
        while found is None and self._orphans:
            found = next(self._orphans[0], None)
            if found is None:
                self._orphans.popleft()
        return found

    def _positions(self, member: int) -> Iterator[int]:
        """Yield what a member has at home, while it has something."""
        while self._current[member] or self._queues[member]:
            if not self._current[member]:
                self._current[member] = self._queues[member].popleft()
                self._left[member] -= len(self._current[member])
            position = self._current[member][0]
            self._current[member] = self._current[member][1:]
            yield position

    def is_again(self, position: int) -> bool:
        """Whether a position was sent before, by a member that was lost."""
        return position in self._sent_again

    def answered(self, member: int, position: int) -> None:
        """Take note of an answer, or of a failure that is one."""
        self._unanswered[member].discard(position)

    def close(self) -> None:
        """Send nothing more but what was sent before, by a member that was lost."""
        self._closed = True
        self._orphans.clear()

    def give_back(self, member: int) -> None:
        """Have what a member has sent and not answered sent once more."""
        self._again.extend(sorted(self._unanswered[member]))
        self._unanswered[member].clear()

    def lose(self, member: int) -> None:
        """Have others send what a member has not answered, and what was left for it."""
        self.give_back(member)
        if not self._closed:
            self._orphans.append(self._turns[member])
        self.alive.discard(member)

    def _richest(self) -> int | None:
        """Return of whom another member may take something, None when of nobody."""
        everyone = range(len(self._queues))
        rich = [m for m in everyone if self._waiting(m) > self._free(m)]
        having_groups = [m for m in rich if self._queues[m]]
        if having_groups:
            return max(having_groups, key=self._left.__getitem__)
        halved = [m for m in rich if len(self._current[m]) >= LEAST_SPLIT]
        return max(halved, key=lambda m: len(self._current[m]), default=None)

    def _waiting(self, member: int) -> int:
        return self._left[member] + len(self._current[member])

    def _take(self, member: int) -> range:
        """Take the last group of a member, or half of its only one."""
        if self._queues[member]:
            group = self._queues[member].pop()
            self._left[member] -= len(group)
            return group
        rest = self._current[member]
        half = len(rest) // 2
        self._current[member] = rest[:half]
        return rest[half:]

    def _give(self, member: int, group: range) -> None:
        self._queues[member].append(group)
        self._left[member] += len(group)


def _weight(member: str, group: str) -> bytes:
    return blake2b(f"{member}\0{group}".encode(), digest_size=8).digest()
