"""Of ranks that are only read up to a limit, the others are not found out.

Finding the first k of n takes O(n) comparisons, sorting all of them O(n log n). Where the
rows that have the other ranks are left out by LIMIT behind ORDER BY, also by that of the query
around, or by a condition of QUALIFY, nobody sees those.

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
from quackllm.optimizer.scope import after_grouping
from quackllm.optimizer.split import order_keys
from quackllm.optimizer.sql import bare, conjuncts
from quackllm.udfs.base import Wanted

DERIVED = frozenset({"this", "alias"})
PLAIN = frozenset({"expressions", "from_", "order"})
ORDERING = PLAIN | {"limit", "offset", "with_"}
"""What a derived table, a query with all of its rows, and one that takes the first of them have."""


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
    reader = _reader(select, catalog)
    rows = row_limit(reader, catalog)
    if rows is None or reader.args.get("where") or reader.args.get("distinct"):
        return None
    first = next(iter(order_keys(reader) or ()), None)
    if first is None or first.args.get("nulls_first") or not catalog.nulls_come_last():
        return None
    key = first.this if reader is select else _selected(first.this, select)
    if key is None or answer_of(key, block) is not site:
        return None
    return Wanted(last=rows) if first.args.get("desc") else Wanted(first=rows)


def _reader(select: exp.Select, catalog: Catalog) -> exp.Select:
    """The query that orders the rows of a block: the one whose FROM it is, or the block itself."""
    derived = select.parent
    if not isinstance(derived, exp.Subquery) or not isinstance(derived.parent, exp.From):
        return select
    reader = derived.parent.parent
    if not isinstance(reader, exp.Select):
        return select
    shapes = [name for name, value in derived.args.items() if value and name not in DERIVED]
    for query, known in ((select, PLAIN), (reader, ORDERING)):
        shapes += [name for name, value in query.args.items() if value and name not in known]
    parts = [*reader.expressions, *(order_keys(reader) or ())]
    return select if shapes or any(after_grouping(part, catalog) for part in parts) else reader


def _selected(key: exp.Expr, select: exp.Select) -> exp.Expr | None:
    """What a block selects under the name of a column; None where that is not one item."""
    named = isinstance(key, exp.Column) and [
        item.unalias() for item in select.expressions if item.alias.lower() == key.name.lower()
    ]
    return named[0] if named and len(named) == 1 else None
