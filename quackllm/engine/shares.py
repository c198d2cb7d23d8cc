"""Who sends what, where several endpoints serve one model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

from quackllm.engine.prefix_groups import PrefixGroup

LEAST_SPLIT = 8
"""Rows of a group below which it stays on one endpoint."""


class Shares:
    """The positions of one round, shared out among members as they ask for more.

    A group of rows that share a prefix is at home with one member, the same one in every
    round (rendezvous hashing: Thaler and Ravishankar 1998), whose cache has the prefix. A
    member that has nothing left takes a whole group of whoever has most left, and when
    there is none, the later half of the largest group that is being sent.

    A member that is lost gives back what it has not answered. For one event loop.
    """

    def __init__(self, groups: Iterable[PrefixGroup], members: Sequence[str]) -> None:
        """Share out groups; members: a name of each, such as its address."""
        self._queues: list[deque[range]] = [deque() for _ in members]
        self._left = [0] * len(members)
        self._current = [range(0)] * len(members)
        self._unanswered: list[set[int]] = [set() for _ in members]
        self._ours: dict[int, Iterator[int]] = {}
        self._orphans: deque[Iterator[int]] = deque()
        self._again: deque[int] = deque()
        self._sent_again: set[int] = set()
        self._closed = False
        self.alive = set(range(len(members)))
        for group in groups:
            home = max(range(len(members)), key=lambda m: _weight(members[m], group.name))
            self._queues[home].append(group.positions)
            self._left[home] += len(group.positions)

    @property
    def returned(self) -> bool:
        """Whether something that a lost member had may still have to be sent."""
        return bool(self._again or self._orphans)

    def positions(self, member: int) -> Iterator[int]:
        """Yield what a member is to send, in order, each position as it is asked for."""
        while (current := self._current[member] or self._another(member)) is not None:
            self._current[member] = current[1:]
            yield current[0]

    def sent_by(self, member: int, ours: Iterator[int]) -> Iterator[int]:
        """Return what a member sends: what was given back, what is its own, what others left.

        ours: those of `positions(member)` that have to be sent at all.
        """
        self._ours[member] = ours
        return self._sent(member, ours)

    def _sent(self, member: int, ours: Iterator[int]) -> Iterator[int]:
        while (position := self._next(ours)) is not None:
            self._unanswered[member].add(position)
            yield position

    def _next(self, ours: Iterator[int]) -> int | None:
        if self._again:
            position = self._again.popleft()
            self._sent_again.add(position)
            return position
        if self._closed:
            return None
        found = next(ours, None)
        while found is None and self._orphans:
            found = next(self._orphans[0], None)
            if found is None:
                self._orphans.popleft()
        return found

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
            self._orphans.append(self._ours[member])
        self.alive.discard(member)

    def _another(self, member: int) -> range | None:
        """Return what a member that has nothing takes next, None when there is nothing."""
        everyone = range(len(self._queues))
        if self._queues[member]:
            return self._taken(member, self._queues[member].popleft())
        longest = max(everyone, key=self._left.__getitem__)
        if self._queues[longest]:
            return self._taken(longest, self._queues[longest].pop())
        busiest = max(everyone, key=lambda m: len(self._current[m]))
        rest = self._current[busiest]
        if len(rest) < LEAST_SPLIT:
            return None
        half = len(rest) // 2
        self._current[busiest] = rest[:half]
        return rest[half:]

    def _taken(self, member: int, group: range) -> range:
        self._left[member] -= len(group)
        return group


def _weight(member: str, group: str) -> bytes:
    return blake2b(f"{member}\0{group}".encode(), digest_size=8).digest()
