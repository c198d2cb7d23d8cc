"""Several orders, each right for some tables, and the exact objective to pick from them.

Any single setting fails badly on some table: a short horizon follows long common
prefixes such as paths, a high exponent starves long texts. So the order as given, one
fixed order, GGR, greedy trees of several settings and roll-outs all compete, as far as
the budget goes, and the result is never worse than those that took part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder.baselines import Layout, fixed, ggr, original, pinned_first
from quackllm.kvcache_reorder.dependencies import find_dependencies
from quackllm.kvcache_reorder.encode import Encoded
from quackllm.kvcache_reorder.objective import Objective
from quackllm.kvcache_reorder.ophr import ophr
from quackllm.kvcache_reorder.polish import MOST_ROWS, insertion_cells, polish
from quackllm.kvcache_reorder.prefix import (
    bounded_prefixes,
    neighbour_prefixes,
    sorted_prefixes,
)
from quackllm.kvcache_reorder.search import Budget, Effort, grow_by_rollouts
from quackllm.kvcache_reorder.tree import Growth, Policy, roots

Algorithm = Literal["original", "fixed", "ggr", "ophr", "greedy"]
"""What can be asked for by name instead of the best of all."""

CELLS_PER_SECOND = 25e6
"""Cells that a tree looks at in a second on a slow core; turns seconds into work."""

_TREE_CELLS = 5.0
"""What a tree looks at per cell of the table, where no audition has told."""

_OTHERS_CELLS = 6.0
"""What fixed, GGR and the audition cost per cell of the table, in cells of a tree."""

_POLICIES = (
    Policy(0.5, leave=True),
    Policy(0.0, leave=True),
    Policy(1.0, leave=True),
)
"""Those that lead to the best roll-outs, on one table or another."""

_OTHERS = (Policy(0.5, partial=True, leave=True), Policy(0.5), Policy(0.0))
"""Those that win now and then on their own."""

_AUDITION = 4000
"""Rows on which policies are compared before one of them gets the whole table."""

_REHEARSAL = 2000
"""Rows on which the default budget tries what roll-outs would gain on the whole table."""

_LEAST_GAIN = 0.005
"""Share of all units that roll-outs have to gain there; for less, a greedy tree will do."""

_POLISH_SHARE = 0.6
"""Of the budget, for moving rows of the best layout, where that moves enough of them."""

_LEAST_BLOCK = 16
"""Tokens per block with which bounded caches are simulated at least."""

_BOUNDED_BLOCKS = 2_000_000
"""Blocks up to which a bounded cache is simulated for the whole table."""


@dataclass(frozen=True)
class _Stage:
    """Roll-outs of some effort and what they cost, in plain trees."""

    trees: float
    policies: int
    effort: Effort


_STAGES = (
    _Stage(300.0, 3, Effort(8, (0, 3, 4, 6, 10), 2000, (0.0, 0.25, 0.5, 1.0))),
    _Stage(60.0, 3, Effort(2, (0, 3, 6), 1000, (0.0, 0.25, 0.5, 1.0))),
    _Stage(14.0, 1, Effort(2, (0, 3, 6), 1000, (0.0, 0.25, 0.5, 1.0))),
    _Stage(7.0, 1, Effort(2, (0,), 2000, (0.0, 1.0))),
    _Stage(4.0, 1, Effort(2, (0,), 500, (0.0, 1.0))),
    _Stage(2.5, 1, Effort(1, (0,), 1000, (0.0, 0.5, 1.0))),
)
"""From the most thorough to the quickest; the first that fits the budget starts."""

_REHEARSED = Effort(2, (0,), 500, (0.0, 1.0))
"""What is rehearsed: the stages that default budgets reach on larger tables are like it."""


@dataclass(frozen=True)
class Found:
    """The order chosen: input rows in output order, a layout, and reuse in units.

    `prefix` (n,): units each output row shares with the one before it. `baseline` is
    what the order of the input reuses.
    """

    rows: NDArray[np.int64]
    layout: Layout
    prefix: NDArray[np.int64]
    reused: float
    baseline: float
    algorithm: str
    reusable: bool


def find_order(
    table: Encoded,
    objective: Objective,
    pinned: Sequence[int] = (),
    seconds: float | None = None,
    dependencies: NDArray[np.bool_] | None = None,
) -> Found:
    """The best order that the budget finds.

    `pinned` columns stay in front, in that order. `seconds` are worth
    `CELLS_PER_SECOND` each; the default is 0.1 s and a microsecond per cell of the
    table, and of that only what a rehearsal on some rows finds worth spending. Too
    little for all others leaves one greedy tree. `dependencies` (m, m) help
    GGR; they are looked for when not given.
    """
    as_given = _pinned(original(table), pinned)
    identity = np.arange(table.rows)
    rows, prefix = sorted_prefixes(table, as_given.orders, as_given.of)
    judge = _Judge(table, objective)
    baseline = judge.in_order(as_given, identity, rows, prefix)
    if not _may_reuse(table, objective):
        kept = neighbour_prefixes(table, as_given.orders, as_given.of, identity)
        return Found(identity, as_given, kept, baseline, baseline, "original", False)
    # The search sees the same rows whatever the order of the input: sorted, then mixed
    # so that any part of them is a fair sample.
    mixed = np.random.default_rng(0).permutation(table.rows)
    order = rows[mixed]
    reused = float(objective.reuse(prefix[1:]).sum())
    first = _Candidate(
        "sorted", Layout(as_given.orders, as_given.of[order]), np.argsort(mixed), prefix, reused
    )
    search = _Search(table.select(order), objective, pinned, first)
    usual = 0.1 + 1e-6 * table.rows * table.columns
    budget = Budget((usual if seconds is None else seconds) * CELLS_PER_SECOND)
    search.run(budget, dependencies, thrifty=seconds is None)
    best = search.best
    of = np.empty_like(best.layout.of)
    of[order] = best.layout.of
    layout, sent = Layout(best.layout.orders, of), order[best.rows]
    reused = judge.in_order(layout, sent, sent, best.prefix)
    if reused < baseline:
        kept = neighbour_prefixes(table, as_given.orders, as_given.of, identity)
        return Found(identity, as_given, kept, baseline, baseline, "original", True)
    return Found(sent, layout, best.prefix, reused, baseline, best.name, True)


def find_with(
    table: Encoded,
    objective: Objective,
    algorithm: Algorithm,
    pinned: Sequence[int] = (),
    dependencies: NDArray[np.bool_] | None = None,
) -> Found:
    """The order that one algorithm finds, with rows sorted but for 'original'.

    Raises ValueError for another name, and 'ophr' for more rows than it can try.
    """
    if algorithm not in get_args(Algorithm):
        names = ", ".join(get_args(Algorithm))
        raise ValueError(f"unknown algorithm {algorithm!r}: 'best' or one of {names}")
    as_given, identity = _pinned(original(table), pinned), np.arange(table.rows)
    judge, reusable = _Judge(table, objective), _may_reuse(table, objective)
    rows, prefix = sorted_prefixes(table, as_given.orders, as_given.of)
    baseline = judge.in_order(as_given, identity, rows, prefix)
    if algorithm == "original":
        prefix = neighbour_prefixes(table, as_given.orders, as_given.of, identity)
        return Found(identity, as_given, prefix, baseline, baseline, algorithm, reusable)
    if algorithm == "fixed":
        layout = fixed(table)
    elif algorithm == "ggr":
        layout = ggr(table, find_dependencies(table) if dependencies is None else dependencies)
    elif algorithm == "ophr":
        layout = ophr(table)[1]
    else:
        growth = Growth(table, objective.reuse, _POLICIES[:1], table.rows, pinned)
        growth.run(roots(table, 1, pinned))
        layout = Layout(growth.orders(), growth.layout)
    layout = _pinned(layout, pinned)
    rows, prefix = sorted_prefixes(table, layout.orders, layout.of)
    reused = judge.in_order(layout, rows, rows, prefix)
    return Found(rows, layout, prefix, reused, baseline, algorithm, reusable)


def _pinned(layout: Layout, pinned: Sequence[int]) -> Layout:
    return pinned_first(layout, np.asarray(pinned, np.int64))


def _may_reuse(table: Encoded, objective: Objective) -> bool:
    """Whether the objective could ever count more than the instruction.

    No prefix is longer than all values of the row that occur twice, and the best
    partial match of one that does not.
    """
    if table.rows < 2 or table.columns == 0:
        return False
    whole = np.zeros(table.rows, np.int64)
    part = np.zeros(table.rows, np.int64)
    for column in range(table.columns):
        low, high = int(table.offsets[column]), int(table.offsets[column + 1])
        codes = table.codes[column]
        twice = np.bincount(codes, minlength=high - low) > 1
        shared = table.shared[low:high].copy()
        shared[:-1] = np.maximum(shared[:-1], shared[1:])
        whole += np.where(twice, table.length[low:high], 0)[codes]
        np.maximum(part, np.where(twice, 0, shared)[codes], out=part)
    part = np.maximum(part, int(table.heads.max(initial=0)))
    return bool((objective.reuse(whole + part) > objective.reuse(np.zeros(1, np.int64))).any())


class _Judge:
    """Scores orders as the objective's server would see them, in units."""

    def __init__(self, table: Encoded, objective: Objective) -> None:
        self.table = table
        self.objective = objective

    def in_order(
        self,
        layout: Layout,
        sent: NDArray[np.int64],
        rows: NDArray[np.int64],
        prefix: NDArray[np.int64],
    ) -> float:
        """Reuse when rows go out in the order `sent`; `rows` and `prefix` are the sorted ones."""
        if len(rows) == 0:
            return 0.0
        objective, server = self.objective, self.objective.server
        if objective.previous_only:
            if sent is not rows:
                prefix = neighbour_prefixes(self.table, layout.orders, layout.of, sent)
        elif server.capacity is not None:
            return self._bounded(server.capacity, sent, rows, prefix)
        return float(objective.reuse(prefix[1:]).sum())

    def _bounded(
        self,
        capacity: int,
        sent: NDArray[np.int64],
        rows: NDArray[np.int64],
        prefix: NDArray[np.int64],
    ) -> float:
        """Reuse in a cache of this many tokens; of large tables from the rows sent first."""
        objective = self.objective
        instruction = objective.server.instruction * objective.units
        # A radix cache has no blocks, but token by token would take for ever.
        block = max(objective.server.block, _LEAST_BLOCK) * objective.units
        length = objective.prompt_length(self.table.row_length)
        most = max(2, int(len(rows) * _BOUNDED_BLOCKS / max(1, int(length.sum()) // block)))
        found = bounded_prefixes(
            rows, prefix + instruction, length, sent[:most], block, capacity * objective.units
        )
        reused = float(objective.reuse(found[1:] - instruction).sum())
        return reused * (len(rows) - 1) / max(1, len(found) - 1)


@dataclass(frozen=True)
class _Candidate:
    name: str
    layout: Layout
    rows: NDArray[np.int64]
    prefix: NDArray[np.int64]
    reused: float


class _Search:
    """The competition: `add` judges an order, `best` is the best so far."""

    def __init__(
        self, table: Encoded, objective: Objective, pinned: Sequence[int], first: _Candidate
    ) -> None:
        self.table = table
        self.objective = objective
        self.pinned = tuple(pinned)
        self.best = first

    def add(self, name: str, layout: Layout) -> None:
        """Judge this layout with its rows sorted; the earlier of two equals stays."""
        layout = _pinned(layout, self.pinned)
        rows, prefix = sorted_prefixes(self.table, layout.orders, layout.of)
        reused = float(self.objective.reuse(prefix[1:]).sum())
        if reused > self.best.reused:
            self.best = _Candidate(name, layout, rows, prefix, reused)

    def run(self, budget: Budget, dependencies: NDArray[np.bool_] | None, thrifty: bool) -> None:
        """Let the contenders compete while the budget lasts; one tree in any case.

        `thrifty`: leave roll-outs out where a rehearsal finds that they gain little.
        """
        size = float(self.table.rows * self.table.columns)
        policies, tree = list(_POLICIES), size * _TREE_CELLS
        if budget.cells >= size * _OTHERS_CELLS:
            self.add("fixed", fixed(self.table))
            if dependencies is None:
                dependencies = find_dependencies(self.table)
            self.add("ggr", ggr(self.table, dependencies))
            budget.spend(size * _OTHERS_CELLS)
            policies, tree = self._audition()
            if thrifty and self._rehearse(policies[0]) < _LEAST_GAIN:
                self._greedy(policies[0])
                return
        kept = self._kept_for_polish(budget)
        budget.spend(kept)
        self._grow(policies, tree, budget)
        if kept:
            moves = Budget(kept + budget.cells)
            best = self.best
            layout = polish(self.table, self.objective.reuse, best.layout, moves, self.pinned)
            self.add(f"{best.name}, polished", layout)

    def _kept_for_polish(self, budget: Budget) -> float:
        """Cells to keep for moving rows: none where half of the rows could not be moved."""
        kept, rows = budget.cells * _POLISH_SHARE, self.table.rows
        enough = rows <= MOST_ROWS and kept > rows / 2 * insertion_cells(self.table)
        return kept if enough else 0.0

    def _grow(self, policies: Sequence[Policy], tree: float, budget: Budget) -> None:
        """Grow trees, the most thorough that the budget allows first; one in any case."""
        grown = False
        for stage in _STAGES:
            if budget.cells > stage.trees * tree:
                self._rollouts(stage, policies, budget)
                grown = True
        if grown:
            # No greedy tree has won against roll-outs on the tables of the benchmark.
            return
        for policy in (*policies, *_OTHERS):
            if not grown or budget.cells > tree:
                budget.spend(self._greedy(policy))
                grown = True

    def _audition(self) -> tuple[list[Policy], float]:
        """Policies by what they reach on some rows, best first, and the cells of one tree."""
        table, count = self.table, len(_POLICIES)
        sample = table
        if table.rows > _AUDITION:
            sample = table.select(np.arange(_AUDITION))
        growth = Growth(sample, self.objective.reuse, _POLICIES, sample.rows * count, self.pinned)
        growth.run(roots(sample, count, self.pinned))
        ranked = [_POLICIES[i] for i in np.argsort(-growth.worth, kind="stable").tolist()]
        if sample is table:
            winner = int(growth.worth.argmax())
            of = growth.layout.reshape(count, table.rows)[winner]
            self.add(f"greedy {ranked[0].label}", Layout(growth.orders(), of))
        return ranked, growth.cells / count * table.rows / sample.rows

    def _rehearse(self, policy: Policy) -> float:
        """What roll-outs gain over a greedy tree on some rows, as a share of their units.

        Infinite for tables so small that the roll-outs may as well be done.
        """
        if self.table.rows < 2 * _REHEARSAL:
            return float("inf")
        sample = self.table.select(np.arange(_REHEARSAL))
        greedy, tried = (
            Growth(sample, self.objective.reuse, [policy], 0, self.pinned) for _ in range(2)
        )
        greedy.run(roots(sample, 1, self.pinned))
        start = roots(sample, 1, self.pinned)
        grow_by_rollouts(tried, start, [policy], _REHEARSED, Budget(float("inf")))
        total = self.objective.prompt_length(sample.row_length).sum()
        return float((tried.worth[0] - greedy.worth[0]) / max(1, total))

    def _greedy(self, policy: Policy) -> float:
        """Grow and judge one tree; returns the cells looked at."""
        growth = Growth(self.table, self.objective.reuse, [policy], self.table.rows, self.pinned)
        growth.run(roots(self.table, 1, self.pinned))
        self.add(f"greedy {policy.label}", Layout(growth.orders(), growth.layout))
        return float(growth.cells)

    def _rollouts(self, stage: _Stage, policies: Sequence[Policy], budget: Budget) -> None:
        growth = Growth(
            self.table, self.objective.reuse, policies[:1], self.table.rows, self.pinned
        )
        start = roots(self.table, 1, self.pinned)
        grow_by_rollouts(growth, start, policies[: stage.policies], stage.effort, budget)
        width, leasts = stage.effort.width, len(stage.effort.leasts)
        name = f"roll-outs {width}x{leasts}x{stage.policies} {policies[0].label}"
        self.add(name, Layout(growth.orders(), growth.layout))
