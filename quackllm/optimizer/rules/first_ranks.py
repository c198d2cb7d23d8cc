"""Of ranks that are only read up to a limit, the others are not found out.

Finding the first k of n takes O(n) comparisons, sorting all of them O(n log n). Where the
rows that have the other ranks are left out by LIMIT behind ORDER BY, or by a condition of
QUALIFY, nobody sees those.

Before: SELECT title FROM x ORDER BY LLM_RANK('...', body) LIMIT 10, all of x sorted
After:  the first 10 found and sorted
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Block, Plan, Site
from quackllm.optimizer.rules.early_stop import answer_of, number, row_limit
from quackllm.optimizer.sql import bare, conjuncts
from quackllm.udfs.base import Wanted


def first_ranks(plan: Plan, catalog: Catalog) -> Plan:
    """Say of each call that ranks the rows of its block which ranks are read."""
    blocks = tuple(_read(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _read(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    if not block.is_joint:
        return block
    sites = tuple(_limited(site, block, select, catalog) for site in block.sites)
    return replace(block, sites=sites)


def _limited(site: Site, block: Block, select: exp.Select, catalog: Catalog) -> Site:
    joint = site.call.declaration.joint
    if joint is None or not joint.ranks or site.call.default is not None:
        return site
    most = min(_at_most(site, block, select, catalog), default=None)
    if most is not None:
        return replace(site, wanted=Wanted(first=most))
    return replace(site, wanted=_ordered_first(site, block, select, catalog) or site.wanted)


def _at_most(site: Site, block: Block, select: exp.Select, catalog: Catalog) -> Iterator[int]:
    """Yield the highest rank that each condition on all rows admits."""
    where = select.args.get("where")
    for part in conjuncts(where.this if where is not None else None):
        low, high = part.args.get("this"), part.args.get("expression")
        if isinstance(part, exp.Between):
            high = part.args["high"]
        elif isinstance(part, exp.GT | exp.GTE):
            low, high = high, low
        elif not isinstance(part, exp.LT | exp.LTE | exp.EQ):
            continue
        exclusive = isinstance(part, exp.LT | exp.GT)
        most = number(bare(high), catalog) if isinstance(high, exp.Expr) else None
        if most is not None and isinstance(low, exp.Expr) and answer_of(low, block) is site:
            yield most - exclusive


def _ordered_first(site: Site, block: Block, select: exp.Select, catalog: Catalog) -> Wanted | None:
    """The ranks of the rows that LIMIT leaves, where they are in the order of the ranks."""
    order, rows = select.args.get("order"), row_limit(select, catalog)
    if order is None or rows is None or select.args.get("where") or select.args.get("distinct"):
        return None
    first = order.expressions[0]
    if answer_of(first.this, block) is not site:
        return None
    if first.args.get("nulls_first") or not catalog.nulls_come_last():
        return None
    return Wanted(last=rows) if first.args.get("desc") else Wanted(first=rows)
