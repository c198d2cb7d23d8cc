"""A row that has found its partner looks for no second one.

A semi join, an anti join and EXISTS keep or drop a row by whether any partner fits, and nothing
else of the partners is read. Pairs are asked in rounds: of each row that has no match yet one
pair, and one more for every four of it that were asked before, so that at most a quarter more is
asked than pair by pair. Rows that are equal in the columns that the condition reads are one row.
A failed pair is NULL, which is no match, and the next one is asked. Early-out semijoins are in
every executor (Graefe, "Query Evaluation Techniques for Large Databases", 1993, section 5);
DuckDB's hash joins stop like this as well, its nested-loop joins ask every pair.

Before: FROM a SEMI JOIN b ON a.brand = b.brand AND LLM_FILTER('...', a.name, b.name), all pairs of
        one brand asked
After:  of each a.brand, a.name pairs asked until one of them matches
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Block, Partners, Plan
from quackllm.optimizer.rules.first_match import CUTTING, computes
from quackllm.optimizer.scope import ANSWER
from quackllm.optimizer.sources import Sources


def first_partner(plan: Plan, catalog: Catalog) -> Plan:
    """Say of semi joins, anti joins and EXISTS whose rows are decided by their first match."""
    blocks = tuple(_block(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _block(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    if block.stop_after is not None or block.is_joint or select.args.get("laterals"):
        return block
    if block.correlated:
        found = [_around(block, select, catalog)]
    else:
        sources = Sources(select, catalog)
        joined = dict.fromkeys(site.join for site in block.sites if site.join is not None)
        found = [_left(join, block, select, sources) for join in joined]
    partners = tuple(each for each in found if each is not None)
    return replace(block, partners=partners) if partners else block


def _left(position: int, block: Block, select: exp.Select, sources: Sources) -> Partners | None:
    """The left rows of a semi or anti join whose condition reads both sides."""
    join = select.args["joins"][position]
    if (join.args.get("kind") or "").upper() not in ("SEMI", "ANTI") or join.args.get("using"):
        return None
    args = [arg for site in block.sites if site.join == position for arg in site.args]
    columns = _columns([join.args["on"], *args])
    if columns is None:
        return None
    right = position + 1
    found = [sources.of(column, among=right + 1) for column in columns]
    if None in found or right not in found:
        return None
    return _partners(
        [column for column, source in zip(columns, found, strict=True) if source != right], position
    )


def _around(block: Block, select: exp.Select, catalog: Catalog) -> Partners | None:
    """The rows around a correlated EXISTS."""
    if not isinstance(select.parent, exp.Exists) or select.args.get("where") is None:
        return None
    clauses = ("group", "having", *CUTTING)
    if any(site.clause != "where" for site in block.sites) or computes(select, catalog):
        return None
    if any(select.args.get(name) for name in clauses):
        return None
    sources = Sources(select, catalog)
    if not all(map(sources.stands_alone, range(len(sources.trees)))):
        return None  # a source may read the row around it
    joins = [join.args["on"] for join in select.args.get("joins", []) if join.args.get("on")]
    args = [arg for site in block.sites for arg in site.args]
    columns = _columns([select.args["where"], *joins, *args])
    if columns is None:
        return None
    outside = [column for column in columns if sources.of(column) is None]
    return _partners(outside) if all(map(sources.lacks, outside)) else None


def _columns(trees: Iterable[exp.Expr]) -> list[exp.Column] | None:
    """The columns that trees read, answers left aside; None where that is not clear."""
    found: dict[exp.Column, None] = {}
    for tree in trees:
        if tree.find(exp.Query, exp.Star, exp.Lambda, exp.Comprehension) is not None:
            return None
        found.update(dict.fromkeys(tree.find_all(exp.Column)))
    return [each for each in found if each.table or not each.name.startswith(ANSWER)]


def _partners(keys: list[exp.Column], join: int | None = None) -> Partners | None:
    return Partners(tuple(key.copy() for key in keys), join) if keys else None
