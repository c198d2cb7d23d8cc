"""A row that has found its partner looks for no second one.

A semi join, an anti join and EXISTS keep or drop a row by whether any partner fits, and nothing
else of the partners is read. Pairs are asked in rounds: of each row that has no match yet one
pair, and one more for every four of it that were asked before, so that at most a quarter more is
asked than pair by pair. Rows that are equal in the columns that the condition reads are one row.
A failed pair is NULL, which is no match, and the next one is asked. Early-out semijoins are in
every executor (Graefe, "Query Evaluation Techniques for Large Databases", 1993, section 5);
DuckDB's hash joins stop like this as well, its nested-loop joins ask every pair. Under a LIMIT
rows are asked about some at a time, until so many have a match.

Before: FROM a SEMI JOIN b ON a.brand = b.brand AND LLM_FILTER('...', a.name, b.name), all pairs of
        one brand asked
After:  of each a.brand, a.name pairs asked until one of them matches
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.partners import partners_around, partners_of_join
from quackllm.optimizer.plan import BLOCK, MATERIALIZE, Block, Partners, Plan
from quackllm.optimizer.rules.early_stop import REDUCING, row_limit
from quackllm.optimizer.scope import after_grouping, enclosing
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import conjuncts, has_calls


def first_partner(plan: Plan, catalog: Catalog) -> Plan:
    """Say of semi joins, anti joins and EXISTS whose rows are decided by their first match."""
    blocks = tuple(_block(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _block(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    if block.stop_after is not None or block.is_joint:
        return block
    if block.correlated:
        in_where = all(site.clause == "where" for site in block.sites)
        args = [arg for site in block.sites for arg in site.args]
        found = [partners_around(select, catalog, args) if in_where else None]
    else:
        sources = Sources(select, catalog)
        joined = dict.fromkeys(site.join for site in block.sites if site.join is not None)
        found = [
            partners_of_join(join, select, sources, block.args_of_join(join)) for join in joined
        ]
    partners = [each for each in found if each is not None]
    if len(partners) == 1:
        partners = [replace(partners[0], stop_after=_enough(block, select, partners[0], catalog))]
    return replace(block, partners=tuple(partners)) if partners else block


def _enough(block: Block, select: exp.Select, partners: Partners, catalog: Catalog) -> int | None:
    """How many rows with a partner are enough, by LIMIT of the query whose rows they are.

    Any of them, and each row counts by itself: a row that was not asked about then only has to
    be left out, as one that has no partner is.
    """
    query = select
    if partners.join is None:
        outer = enclosing(select)
        where = outer.args.get("where") if outer is not None else None
        parts = conjuncts(where.this if where is not None else None)
        if outer is None or not any(part.unnest() is select.parent for part in parts):
            return None
        query = outer
    elif (select.args["joins"][partners.join].args.get("kind") or "").upper() != "SEMI":
        return None
    alone = all(site.join == partners.join for site in block.sites)
    kept = query.meta_get(MATERIALIZE) or enclosing(query) is None
    inside = [part for part in query.find_all(exp.Query) if part is not query]
    marked = any(part.meta_get(MATERIALIZE) for part in inside)
    blocks = {part.meta_get(BLOCK) for part in (query, *inside)} - {None}
    if not alone or not kept or marked or blocks != {block.number} or has_calls(query):
        return None
    changed = any(query.args.get(name) for name in (*REDUCING, "order", "sample"))
    if changed or any(after_grouping(item, catalog) for item in query.expressions):
        return None
    return row_limit(query, catalog)
