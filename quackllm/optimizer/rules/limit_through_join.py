"""LIMIT also stops the query with calls that its rows are made from.

A derived table or CTE whose filter calls a model may stop when the query around it has
enough rows, whatever joins and plain conditions stand between: rows that are left out of it
can only take rows away, never change or add one. The rows of the query with LIMIT are
counted in place of those of the block.

Before: WITH good AS (SELECT * FROM m WHERE LLM_FILTER('...', plot))
        SELECT * FROM good JOIN r ON r.film = good.id LIMIT 10, all of m asked
After:  m asked in batches until ten joined rows are certain
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import BLOCK, LIMITED, Block, Plan
from quackllm.optimizer.rules.early_stop import REDUCING, row_limit
from quackllm.optimizer.rules.push_filters import ctes_read_once
from quackllm.optimizer.sql import has_calls


def limit_through_join(plan: Plan, catalog: Catalog) -> Plan:
    """Say of blocks that feed a LIMIT without ORDER BY that it stops them."""
    if not any(map(_cuts, plan.selects)):
        return plan
    root = plan.root.copy()
    found = replace(plan, root=root)
    blocks = {block.number: block for block in plan.blocks}
    joint = {block.number for block in plan.blocks if block.is_joint}
    changed = False
    for block in plan.blocks:
        query = _limited(found.select_of(block), block, root, catalog, joint)
        wanted = None if query is None else row_limit(query, catalog)
        if query is not None and wanted is not None and _is_only_block(query, block, root):
            query.meta[LIMITED] = block.number
            blocks[block.number] = replace(block, stop_after=wanted, limited=True)
            changed = True
    return replace(found, blocks=tuple(blocks.values())) if changed else plan


def _limited(
    select: exp.Select, block: Block, root: exp.Expr, catalog: Catalog, joint: Collection[int]
) -> exp.Select | None:
    """The query with LIMIT that takes rows of a block as they are; None when there is none.

    joint: numbers of the blocks that need all rows of what they read.
    """
    filters = block.sites and all(site.clause == "where" for site in block.sites)
    if not filters or block.stop_after is not None or block.correlated:
        return None
    if not _passes_rows_on(select, catalog) or _cuts(select):
        return None
    node = select
    while (reader := _reader(node, root)) is not None:
        if not _passes_rows_on(reader, catalog) or reader.meta_get(BLOCK) in joint:
            return None
        if _cuts(reader):
            return reader if not reader.args.get("order") else None
        node = reader
    return None


def _cuts(select: exp.Select) -> bool:
    return bool(select.args.get("limit") or select.args.get("offset"))


def _passes_rows_on(select: exp.Select, catalog: Catalog) -> bool:
    """Whether a query makes its rows of single rows of its sources."""
    if any(select.args.get(name) for name in (*REDUCING, "sample")) or is_grouped(select, catalog):
        return False
    return not any(item.find(exp.Window) for item in select.expressions)


def _reader(select: exp.Select, root: exp.Expr) -> exp.Select | None:
    """The one query that has another in FROM, where its rows are not kept without a partner."""
    parent = select.parent
    if isinstance(parent, exp.CTE):
        if ctes_read_once(root).get(parent.alias) is not select:
            return None
        tables = (table for table in root.find_all(exp.Table) if table.name == parent.alias)
        place: exp.Expr = next(tables)
    elif isinstance(parent, exp.Subquery):
        place = parent
    else:
        return None
    slot = place.parent
    in_from = isinstance(slot, exp.From | exp.Join) and slot.this is place
    reader = slot.parent if slot is not None and in_from else None
    if not isinstance(reader, exp.Select):
        return None
    joins = reader.args.get("joins", [])
    if any(join.method or (join.side or "").upper() in ("RIGHT", "FULL") for join in joins):
        return None
    if isinstance(slot, exp.Join) and (slot.side or slot.kind in ("SEMI", "ANTI")):
        return None
    return reader


def _is_only_block(query: exp.Select, block: Block, root: exp.Expr) -> bool:
    """Whether a query's rows wait for no other call than those of a block."""
    bodies = {cte.alias.lower(): cte.this for cte in root.find_all(exp.CTE)}
    trees: list[exp.Expr] = [query]
    for tree in trees:  # grows: CTEs that are named, and those that they name
        named = {table.name.lower() for table in tree.find_all(exp.Table)}
        trees += [bodies.pop(name) for name in named & set(bodies)]
    numbers = {part.meta_get(BLOCK) for tree in trees for part in tree.find_all(exp.Select)}
    return numbers - {None} == {block.number} and not any(map(has_calls, trees))
