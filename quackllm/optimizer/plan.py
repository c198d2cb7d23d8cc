"""The plan of a statement: frozen nodes that rules turn into other frozen nodes.

The relational part of a statement stays a sqlglot tree, which only DuckDB interprets.
What the planner reasons about is the model calls: in which SELECT block each stands
(`Block`), under which conditions a row reaches it (`Site.guards`), and what has to be
known before. Trees inside these nodes are values: a rule that changes one copies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sqlglot import exp

from quackllm.optimizer.scope import queries
from quackllm.optimizer.sql import find_all, has_calls
from quackllm.udfs.base import ALL, Call, Wanted

BLOCK = "quackllm_block"
"""Key in a SELECT node's `meta` that holds the number of its block."""

MATERIALIZE = "quackllm_materialize"
"""Key in a query node's `meta`: run it once and keep its rows. The value names them, so
that a condition that holds a copy of the query reads the same rows."""

LIMITED = "quackllm_limited"
"""Key in a SELECT node's `meta` that holds the number of a block that its LIMIT stops."""

RENDERED = "quackllm_rendered"
"""Key in the `meta` of an argument that is the text which the model is shown, not the value."""


@dataclass(frozen=True)
class Strategy:
    """How a call that decides a join is answered for its pairs, other than by asking all.

    name: 'block', 'classify' or 'batch_prompt'.
    left, right: positions of the arguments of either side.
    by_itself: whether it was chosen by the setting, and may be left where it does not pay.
    candidates: of blocking, with how many of the nearest values of the other side each value is
        compared; None for as many as the recall wanted needs.
    """

    name: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    by_itself: bool = False
    candidates: int | None = None


@dataclass(frozen=True)
class Site:
    """One model call of a block: its answer is a column of the block's rows.

    column: the name that the answer has inside the block.
    call: what is asked.
    args: the fields' expressions, over the block's FROM and earlier sites' columns.
    guards: conditions over the same; a row reaches the call when all are TRUE. They
        may hold for more rows than the naive plan evaluates, never for fewer. A joint call
        is about all rows where they hold for one of them, and is not made where for none.
    clause: where the call stands: 'where', 'expressions', 'group', 'having', ..., 'on'.
    join: for 'on', the position of the join whose condition it stands in.
    left: for 'on', whether it is asked about rows left of the join alone.
    wanted: of a joint call, which answers are read.
    unread: positions of sources of FROM, from 0, that it does not read: each has to have a
        row, whichever.
    strategy: where not all pairs of a join need to be asked, how they are chosen.
    """

    column: str
    call: Call
    args: tuple[exp.Expr, ...]
    guards: tuple[exp.Expr, ...]
    clause: str
    join: int | None = None
    left: bool = False
    wanted: Wanted = ALL
    unread: tuple[int, ...] = ()
    strategy: Strategy | None = None

    @property
    def is_joint(self) -> bool:
        """Whether the call is about all rows of the block: then none of them may be left out."""
        return self.call.declaration.joint is not None


@dataclass(frozen=True)
class Partners:
    """Rows that look for one partner each: a row that has found it needs no second one.

    keys: columns of such a row that decide which partners fit; rows with equal ones are one.
    join: the position of the semi or anti join whose left rows they are; None for the rows
        around a correlated block.
    stop_after: where LIMIT of the query whose rows they are takes any that have a partner, how
        many are enough.
    """

    keys: tuple[exp.Expr, ...]
    join: int | None = None
    stop_after: int | None = None

    def condition(self, select: exp.Select) -> exp.Expr:
        """Return what a partner has to fulfil: ON of the join, WHERE of the block."""
        if self.join is None:
            condition: exp.Expr = select.args["where"].this
        else:
            condition = select.args["joins"][self.join].args["on"]
        return condition


@dataclass(frozen=True)
class Block:
    """One SELECT whose calls are staged.

    number: the block's mark in the tree (see `BLOCK`).
    sites: in the order in which they are answered.
    stop_after: rows after which no further answer can change the result, or None.
    order: with stop_after, the keys in whose order rows are wanted; empty for any rows.
    keys: with stop_after, expressions of each of whose values so many rows are wanted;
        empty for all rows together.
    counts: conditions on answers, beside WHERE, of the rows that stop_after counts.
    limited: whether stop_after counts the rows of a query around the block (see `LIMITED`).
    correlated: whether the block reads columns of the SELECT around it.
    outer_guards: then, where it stands in FROM, conditions over what is left of it there;
        rows of the SELECT around it count when all are TRUE.
    partners: rows that are decided by their first match; without stop_after.
    """

    number: int
    sites: tuple[Site, ...]
    stop_after: int | None = None
    order: tuple[exp.Ordered, ...] = ()
    keys: tuple[exp.Expr, ...] = ()
    counts: tuple[exp.Expr, ...] = ()
    limited: bool = False
    correlated: bool = False
    outer_guards: tuple[exp.Expr, ...] = ()
    partners: tuple[Partners, ...] = ()

    @property
    def is_joint(self) -> bool:
        """Whether a call of the block is about all of its rows."""
        return any(site.is_joint for site in self.sites)

    def args_of_join(self, position: int) -> list[exp.Expr]:
        """Return what the calls in the condition of a join are asked about."""
        return [arg for site in self.sites if site.join == position for arg in site.args]

    def partners_by(self, site: Site) -> Partners | None:
        """Return the rows that look for a partner by the condition in which a site stands."""
        return next((each for each in self.partners if each.join == site.join), None)


@dataclass(frozen=True)
class Plan:
    """A statement that is a query, bound, with its calls staged or left in place.

    root: the tree; staged calls are columns, the others `ModelCall` nodes.
    calls: the bound calls of the `ModelCall` nodes, by spec.
    blocks: inner blocks first, in the order in which they are answered.
    unstaged: why the calls that remain in the tree do, one reason each.
    applied: names of the rules that changed something, in order.

    What rules ask of the tree before they copy it is found out once for each plan.
    """

    root: exp.Expr
    calls: Mapping[str, Call]
    blocks: tuple[Block, ...] = ()
    unstaged: tuple[str, ...] = ()
    applied: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def queries(self) -> tuple[exp.Query, ...]:
        """All queries of the tree, in the order of `quackllm.optimizer.scope.queries`."""
        return tuple(queries(self.root))

    @cached_property
    def selects(self) -> tuple[exp.Select, ...]:
        """The SELECTs among the queries."""
        return tuple(query for query in self.queries if isinstance(query, exp.Select))

    @cached_property
    def has_nested_calls(self) -> bool:
        """Whether a SELECT inside another query calls a model."""
        return any(select is not self.root and has_calls(select) for select in self.selects)

    def holds(self, *classes: type[exp.Expr]) -> bool:
        """Whether the tree has a node of one of some classes."""
        return any(issubclass(each, classes) for each in self._classes)

    @cached_property
    def _classes(self) -> frozenset[type[exp.Expr]]:
        return frozenset(map(type, find_all(self.root, exp.Expr)))

    def select_of(self, block: Block) -> exp.Select:
        """Return the SELECT node of a block. Read it; copy before changing."""
        return next(each for each in self.selects if each.meta_get(BLOCK) == block.number)
