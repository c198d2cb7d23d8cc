"""MAX and MIN are known when a value is found that no other can exceed.

Of a score that is at the bound that its call declares, by group if there are groups; and
of a number or a date whose rows a call filters, at the first row that passes in its order.
Rounds are as in `early_stop` and `first_match`.

Before: SELECT film, max(LLM_SCORE('...', body)) FROM r GROUP BY film, all reviews asked
After:  reviews of a film asked until one of them has the score 1
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.failing import tried
from quackllm.optimizer.grouping import group_keys
from quackllm.optimizer.guards import uses
from quackllm.optimizer.plan import Block, Plan
from quackllm.optimizer.rules.early_stop import answer_of, at_bound
from quackllm.optimizer.scope import (
    clause_parts,
    has_grouping_sets,
    in_scope,
    is_aggregate,
    rows_of,
)
from quackllm.optimizer.sql import own_nodes

ORDERED_TYPES = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
    *("DECIMAL", "FLOAT", "DOUBLE", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
)
"""Types that have one order, whatever the collation and however nested NULLs are sorted."""

CUTTING = ("qualify", "windows", "sample", "distinct")
"""Clauses that are left alone here."""


def best_score(plan: Plan, catalog: Catalog) -> Plan:
    """Say of each block whose only aggregate is one MAX or MIN when it may stop."""
    blocks = tuple(_stop(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _stop(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    if block.correlated or block.stop_after is not None or not block.sites or block.is_joint:
        return block
    if any(select.args.get(name) for name in CUTTING):
        return block
    wanted = set(_aggregates(select, catalog))
    if len(wanted) != 1 or select.find(exp.Window, exp.Explode):
        return block
    keys = _keys(select, catalog)
    if keys is None:
        return block
    [aggregate] = wanted
    value = aggregate.expressions[0]
    answers = {site.column for site in block.sites}
    if any(uses(key, answers) or key.find(exp.Query, exp.Star) for key in keys):
        return block
    highest = aggregate.name.lower() == "max"
    site = answer_of(value, block)
    others = [one for one in block.sites if one is not site]
    if any(one.clause != "where" for one in others):
        return block
    if site is not None:
        bound = at_bound(site, highest=highest)
        if bound is None:
            return block
        known = tuple(tried(key, select, catalog) for key in keys)
        return replace(block, stop_after=1, keys=known, counts=(bound,))
    if keys or uses(value, answers) or not _is_ordered_alike(value, select, catalog):
        return block
    order = tried(value, select, catalog)
    is_value = exp.Not(this=exp.Is(this=exp.paren(order.copy()), expression=exp.null()))
    best = exp.Ordered(this=order, desc=highest, nulls_first=False)
    return replace(block, stop_after=1, order=(best,), counts=(is_value,))


def _aggregates(select: exp.Select, catalog: Catalog) -> Iterator[exp.Anonymous]:
    """The aggregates of a block; one that is not a plain MAX or MIN comes twice over."""
    for clause, part in clause_parts(select):
        for node in own_nodes(part) if clause != "where" else ():
            if not is_aggregate(node, catalog):
                continue
            filtered = isinstance(node.parent, exp.Filter | exp.WithinGroup)
            if isinstance(node, exp.Anonymous) and _is_plain(node) and not filtered:
                yield node
            else:
                yield from (exp.Anonymous(this="max"), exp.Anonymous(this="min"))


def _is_plain(aggregate: exp.Anonymous) -> bool:
    return aggregate.name.lower() in ("max", "min") and len(aggregate.expressions) == 1


def _is_ordered_alike(value: exp.Expr, select: exp.Select, catalog: Catalog) -> bool:
    """Whether ORDER BY sorts a value as MAX compares it: not so for texts and nested values."""
    if value.find(exp.Query, exp.Distinct, exp.Order, exp.Star) is not None:
        return False
    columns = catalog.columns(in_scope(select, rows_of(select, [value.copy()])))
    return columns is not None and columns[0][1].split("(")[0] in ORDERED_TYPES


def _keys(select: exp.Select, catalog: Catalog) -> list[exp.Expr] | None:
    """The expressions of GROUP BY; None when they cannot be told."""
    if select.args.get("group") is None:
        return []
    if has_grouping_sets(select):
        return None
    return [key.copy() for key in group_keys(select, catalog)]
