"""LIMIT is satisfied by the first rows that pass.

Argument tuples are asked in batches that double, and asking stops when enough rows
are certain. At most as many tuples are asked in vain as were asked before the last
batch, plus the first batch. With ORDER BY over columns that need no answer, tuples
are asked in that order, and a row is certain when no row that sorts before it is open.
Compare Carey and Kossmann, "On Saying 'Enough Already!' in SQL" (SIGMOD 1997).

Before: SELECT * FROM x WHERE LLM_FILTER('...', body) ORDER BY year LIMIT 10, all rows of x asked
After:  rows asked in the order of year until the first 10 that pass are known
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import uses
from quackllm.optimizer.plan import Block, Plan
from quackllm.optimizer.scope import after_grouping
from quackllm.optimizer.split import order_keys

REDUCING = ("group", "having", "qualify", "distinct", "windows")
"""Clauses under which the first rows that pass are not simply kept."""


def early_stop(plan: Plan, catalog: Catalog) -> Plan:
    """Say of each block after how many rows it may stop."""
    blocks = tuple(_stop(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _stop(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    wanted = row_limit(select, catalog)
    filters = block.sites and all(site.clause == "where" for site in block.sites)
    if wanted is None or not filters or block.correlated:
        return block
    if any(select.args.get(name) for name in REDUCING):
        return block
    if any(after_grouping(item, catalog) for item in select.expressions):
        return block
    keys = order_keys(select)
    answers = {site.column for site in block.sites}
    if keys is None or any(uses(key, answers) or after_grouping(key, catalog) for key in keys):
        return block
    return replace(block, stop_after=wanted, order=tuple(keys))


def row_limit(select: exp.Query, catalog: Catalog) -> int | None:
    """Rows that LIMIT and OFFSET ask for together, None when that is not a plain number."""
    limit, offset = select.args.get("limit"), select.args.get("offset")
    if not isinstance(limit, exp.Limit) or limit.args.get("limit_options"):  # a percentage
        return None
    rows = number(limit.expression, catalog)
    skipped = number(offset.expression, catalog) if isinstance(offset, exp.Offset) else 0
    return None if rows is None or skipped is None else rows + skipped


def number(node: exp.Expr | None, catalog: Catalog) -> int | None:
    """The value of a whole number or a parameter, None of anything else."""
    if isinstance(node, exp.Literal) and node.is_int:
        return int(node.this)
    if isinstance(node, exp.Placeholder):
        value = catalog.parameters.get(node.name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    return None
