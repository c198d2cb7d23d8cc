"""A set is complete when each of its values has one row that passes.

EXISTS asks for one row. IN, ANY and ALL, SELECT DISTINCT, GROUP BY without aggregates, the
operands of UNION, INTERSECT and EXCEPT, and the right side of a semi or anti join ask for
one row of each value. Tuples are asked in rounds: of each value that has no row yet one
tuple first, then twice as many each time, 16 in all at least. At most as many tuples of a
value are asked in vain as were asked before, plus one. Compare the existential joins of
Ramakrishnan et al., and early-out semijoins in any executor.

Before: WHERE id IN (SELECT film FROM r WHERE LLM_FILTER('...', body)), all reviews asked
After:  of each film reviews asked until one of them passes
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.failing import tried
from quackllm.optimizer.grouping import group_keys
from quackllm.optimizer.guards import uses
from quackllm.optimizer.plan import Block, Plan
from quackllm.optimizer.scope import CUTTING, computes, has_grouping_sets
from quackllm.optimizer.split import is_star


def first_match(plan: Plan, catalog: Catalog) -> Plan:
    """Say of each block whose rows are wanted as a set that one row of a value is enough."""
    blocks = tuple(_stop(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _stop(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    filters = block.sites and all(site.clause == "where" for site in block.sites)
    if not filters or block.correlated or block.stop_after is not None or block.is_joint:
        return block
    if any(select.args.get(name) for name in CUTTING) or computes(select, catalog):
        return block
    if isinstance(select.parent, exp.Exists):
        grouped = select.args.get("group") or select.args.get("having")
        return block if grouped else replace(block, stop_after=1)
    keys = _set_of(select, catalog)
    answers = {site.column for site in block.sites}
    if not keys or any(
        uses(key, answers) or is_star(key) or key.find(exp.Query, exp.Star) for key in keys
    ):
        return block
    return replace(block, stop_after=1, keys=tuple(tried(key, select, catalog) for key in keys))


def _set_of(select: exp.Select, catalog: Catalog) -> list[exp.Expr]:
    """The expressions of whose values one row each is wanted; none when all rows are."""
    group, distinct = select.args.get("group"), select.args.get("distinct")
    items = [item.unalias() for item in select.expressions]
    if group is not None:
        return [] if has_grouping_sets(select) else group_keys(select, catalog)
    if select.args.get("having"):
        return []
    if distinct is not None:
        return [] if distinct.args.get("on") else items
    return items if _is_read_as_set(select) else []


def _is_read_as_set(select: exp.Select) -> bool:
    """Whether what reads a query makes no difference between one row and several equal ones."""
    node: exp.Expr = select
    parent = node.parent
    while isinstance(parent, exp.Subquery | exp.SetOperation):
        if any(parent.args.get(name) for name in ("limit", "offset", "sample")):
            return False
        if isinstance(parent, exp.SetOperation) and parent.args.get("distinct"):
            return True
        if isinstance(parent, exp.SetOperation) and not isinstance(parent, exp.Union):
            return False  # INTERSECT ALL and EXCEPT ALL count
        node, parent = parent, parent.parent
    if isinstance(parent, exp.In | exp.Any | exp.All):
        return parent.args.get("this") is not node or not isinstance(parent, exp.In)
    if not isinstance(parent, exp.Join) or parent.this is not node:
        return False
    return (parent.args.get("kind") or "").upper() in ("SEMI", "ANTI")
