"""Roll-outs: a node tries a few columns and keeps the one whose whole tree is worth most.

A greedy choice is misled where a column pays at once and spoils what follows. A
roll-out grows the tree below each candidate with a plain policy and compares the
results; growing is level-synchronous, so the candidates of all nodes grow together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder._nodes import Splits
from quackllm.kvcache_reorder.tree import Frontier, Growth, Policy


@dataclass(frozen=True)
class Effort:
    """How far roll-outs go.

    Each exponent of `betas` names its `width` best columns; for each, groups of fewer
    than `leasts` rows leave the column (0: as the policy says); nodes of more than
    `sample` rows are judged by that many of their rows.
    """

    width: int = 2
    leasts: tuple[int, ...] = (0,)
    sample: int = 1000
    betas: tuple[float, ...] = (0.0, 1.0)


@dataclass
class Budget:
    """Work left, in cells looked at: not seconds, so that equal input gives equal output."""

    cells: float

    def spend(self, cells: float) -> None:
        """Take off what was done."""
        self.cells -= cells


def grow_by_rollouts(
    growth: Growth, frontier: Frontier, policies: Sequence[Policy], effort: Effort, budget: Budget
) -> None:
    """Grow like `Growth.run`, but choose columns by roll-outs while the budget lasts.

    Each candidate is tried with every one of `policies`; the best counts.
    """
    while frontier.sizes.size:
        before = growth.cells
        frontier, gains = growth.settle(frontier)
        choice = growth.choose(frontier, gains)
        budget.spend(growth.cells - before)
        if budget.cells > 0:
            frontier, choice = _tried(growth, frontier, gains, choice, policies, effort, budget)
        frontier = growth.advance(frontier, gains, choice)
    growth.finish()


def _tried(
    growth: Growth,
    frontier: Frontier,
    gains: Splits,
    choice: NDArray[np.int64],
    policies: Sequence[Policy],
    effort: Effort,
    budget: Budget,
) -> tuple[Frontier, NDArray[np.int64]]:
    """The frontier and choice after roll-outs of all nodes that have more than one option."""
    node, column = _candidates(frontier, gains, choice, effort)
    options = len(effort.leasts) * len(policies)
    node, column = np.repeat(node, options), np.repeat(column, options)
    if node.size == 0:
        return frontier, choice
    least = np.tile(np.repeat(effort.leasts, len(policies)), len(node) // options)
    trial = replace(
        frontier.take(node),
        root=np.arange(len(node)),
        forced=column,
        least=least,
        home=np.full(len(node), -1),
    ).thin(effort.sample)
    tree = Growth(growth.table, growth.reuse, list(policies) * (len(node) // len(policies)), 0)
    tree.run(trial)
    budget.spend(tree.cells)
    # Best first within each node; earlier candidates win ties.
    order = np.lexsort((np.arange(len(node)), -tree.worth, node))
    best = order[np.unique(node[order], return_index=True)[1]]
    choice, leasts = choice.copy(), frontier.least.copy()
    choice[node[best]], leasts[node[best]] = column[best], least[best]
    return replace(frontier, least=leasts), choice


def _candidates(
    frontier: Frontier, gains: Splits, choice: NDArray[np.int64], effort: Effort
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of node and column worth a trial, for nodes that have at least two."""
    named = np.zeros(gains.equal.shape, bool)
    open_ = np.flatnonzero((choice >= 0) & (frontier.forced < 0))
    named[open_, choice[open_]] = True
    live = frontier.live[open_]
    for beta in effort.betas:
        score = np.where(live, gains.equal[open_] / gains.distinct[open_] ** beta, -1.0)
        top = np.argsort(-score, axis=1, kind="stable")[:, : effort.width]
        good = np.take_along_axis(score, top, axis=1) >= 0
        line, at = np.nonzero(good)
        named[open_[line], top[line, at]] = True
    named &= (named.sum(axis=1) > 1)[:, None]
    node, column = np.nonzero(named)
    return node, column
