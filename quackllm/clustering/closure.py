"""From answers about pairs to groups: what is connected is one group.

Sameness is taken to be transitive: if a is b and b is c, then a is c, whatever was answered
about a and c. Such an answer contradicts the others and is reported, never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


def components(n: int, left: Positions, right: Positions) -> Positions:
    """Return for each of n positions the smallest position that it is connected with, (n,).

    left, right: (p,), the pairs that are connected. A disjoint-set forest whose roots are
    the smallest of their set, paths halved (Tarjan and van Leeuwen, 1984).
    """
    parent = list(range(n))
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        low, high = sorted((_root(parent, a), _root(parent, b)))
        parent[high] = low
    return np.array([_root(parent, at) for at in range(n)], np.int64)


def _root(parent: list[int], at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@dataclass(frozen=True)
class Groups:
    """n things in groups.

    numbers: (n,), from 1 on, in the order of the smallest position of each group.
    conflicts: (n,), of each thing's group the pairs that were answered to differ.
    unanswered: (n,), of each thing's group the pairs with a member that have no answer.
    """

    numbers: Positions
    conflicts: Positions
    unanswered: Positions


def grouped(n: int, left: Positions, right: Positions, same: Sequence[bool | None]) -> Groups:
    """Group n things by what was answered about pairs of them.

    left, right, same: (p,), the pairs, and whether they are the same; None without an answer.
    """
    matched = np.array([answer is True for answer in same], bool)
    differ = np.array([answer is False for answer in same], bool)
    missing = ~(matched | differ)
    smallest = components(n, left[matched], right[matched])
    number = np.unique(smallest, return_inverse=True)[1].astype(np.int64)
    one, other = number[left], number[right]
    inside = one == other
    conflicts = _count(one[differ & inside], n)
    unanswered = _count(one[missing], n) + _count(other[missing & ~inside], n)
    return Groups(number + 1, conflicts[number], unanswered[number])


def _count(numbers: Positions, n: int) -> Positions:
    return np.bincount(numbers, minlength=n).astype(np.int64)
