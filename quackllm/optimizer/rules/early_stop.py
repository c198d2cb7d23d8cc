"""LIMIT is satisfied by the first rows that pass.

Argument tuples are asked in batches that grow, and asking stops when enough rows are
certain. At most as many tuples of a call are asked in vain as were asked before, plus one
batch. With ORDER BY over columns that need no answer, tuples are asked in that order, and a
row is certain when no row that sorts before it is open. With ORDER BY over a score first,
a row is certain when its score is at the bound that the call declares, and enough such rows
end the search; further keys are the order among them.
Compare Carey and Kossmann, "On Saying 'Enough Already!' in SQL" (SIGMOD 1997).

Before: SELECT * FROM x WHERE LLM_FILTER('...', body) ORDER BY year LIMIT 10, all rows of x asked
After:  rows asked in the order of year until the first 10 that pass are known
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.failing import tried
from quackllm.optimizer.guards import uses
from quackllm.optimizer.plan import Block, Plan, Site
from quackllm.optimizer.scope import after_grouping
from quackllm.optimizer.split import order_keys

REDUCING = ("group", "having", "qualify", "distinct", "windows")
"""Clauses under which the first rows that pass are not simply kept."""


def early_stop(plan: Plan, catalog: Catalog) -> Plan:
    """Say of each block with a LIMIT after how many rows it may stop."""
    blocks = tuple(_stop(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _stop(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    wanted = row_limit(select, catalog)
    if wanted is None or not block.sites or block.correlated or block.is_joint:
        return block
    if any(select.args.get(name) for name in REDUCING):
        return block
    if any(after_grouping(item, catalog) for item in select.expressions):
        return block
    keys = order_keys(select)
    if keys is None:
        return block
    at_bound, keys = _score_first(block, keys, catalog)
    answers = {site.column for site in block.sites}
    if any(uses(key, answers) or after_grouping(key, catalog) for key in keys):
        return block
    scored = {part.this.name for part in at_bound}
    if not all(site.clause == "where" or site.column in scored for site in block.sites):
        return block
    order = tuple(
        exp.Ordered(**{**key.args, "this": tried(key.this, select, catalog)}) for key in keys
    )
    return replace(block, stop_after=wanted, order=order, counts=at_bound)


def _score_first(
    block: Block, keys: list[exp.Ordered], catalog: Catalog
) -> tuple[tuple[exp.EQ, ...], list[exp.Ordered]]:
    """When the first key is a score: that it is at its bound, and the other keys."""
    first = keys[0] if keys else None
    site = None if first is None else answer_of(first.this, block)
    if first is None or site is None or first.args.get("nulls_first"):
        return (), keys
    bound = at_bound(site, highest=bool(first.args.get("desc")))
    if bound is None or not catalog.nulls_come_last():
        return (), keys
    return (bound,), keys[1:]


def answer_of(node: exp.Expr, block: Block) -> Site | None:
    """The site whose answer an expression is."""
    bare = node.unnest()
    if not isinstance(bare, exp.Column) or bare.table:
        return None
    return next((site for site in block.sites if site.column == bare.name), None)


def at_bound(site: Site, *, highest: bool) -> exp.EQ | None:
    """Write that an answer is the best there can be; None where no bound is declared.

    A default for failed calls is not held to the bounds.
    """
    bounds = site.call.declaration.bounds
    if bounds is None or site.call.default is not None:
        return None
    value = exp.Literal.number(repr(bounds[1] if highest else bounds[0]))
    return exp.EQ(this=exp.column(exp.to_identifier(site.column, quoted=True)), expression=value)


def row_limit(select: exp.Expr, catalog: Catalog) -> int | None:
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
