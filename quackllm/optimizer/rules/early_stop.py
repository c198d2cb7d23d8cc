"""LIMIT without an order is satisfied by the first rows that pass.

Argument tuples are asked in batches that double, and asking stops when enough rows
are certain. At most as many tuples are asked in vain as were asked before the last
batch, plus the first batch. Compare "fetch first n rows" processing in Carey and
Kossmann, "On Saying 'Enough Already!' in SQL" (SIGMOD 1997).

Before: SELECT * FROM x WHERE LLM_FILTER('...', body) LIMIT 10, all rows of x asked
After:  rows asked until 10 passed
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Block, Plan
from quackllm.optimizer.scope import after_grouping

UNORDERED = ("order", "group", "having", "qualify", "distinct", "windows")
"""Clauses under which the first rows that pass are not simply kept."""


def early_stop(plan: Plan, catalog: Catalog) -> Plan:
    """Say of each block after how many rows it may stop."""
    blocks = tuple(_stop(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _stop(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    wanted = row_limit(select, catalog)
    filters = block.sites and all(site.clause == "where" for site in block.sites)
    if wanted is None or not filters or any(select.args.get(name) for name in UNORDERED):
        return block
    if any(after_grouping(item, catalog) for item in select.expressions):
        return block
    return replace(block, stop_after=wanted)


def row_limit(select: exp.Select, catalog: Catalog) -> int | None:
    """Rows that LIMIT and OFFSET ask for together, None when that is not a plain number."""
    limit, offset = select.args.get("limit"), select.args.get("offset")
    if not isinstance(limit, exp.Limit):
        return None
    rows = _number(limit.expression, catalog)
    skipped = _number(offset.expression, catalog) if isinstance(offset, exp.Offset) else 0
    return None if rows is None or skipped is None else rows + skipped


def _number(node: exp.Expr | None, catalog: Catalog) -> int | None:
    if isinstance(node, exp.Literal) and node.is_int:
        return int(node.this)
    if isinstance(node, exp.Placeholder):
        value = catalog.parameters.get(node.name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    return None
