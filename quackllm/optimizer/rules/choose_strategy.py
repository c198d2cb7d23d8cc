"""The condition of a join that a model decides may be decided for fewer than all pairs.

Only where the user allows it: by `strategy := 'block'`, `'classify'` or `'batch_prompt'` on the
LLM_FILTER, or by `SET llm_approximate = 'auto'`, which takes blocking, in inner joins and
semijoins without a LIMIT: there a pair that is left out is a row that is missing, never a row that
is wrong. The answers of the pairs left out are NULL, so that the call has to be a condition of its
own, not under NOT or OR. Which pairs are asked is decided when the statement runs
(`quackllm.engine.joins`).

Before: FROM a JOIN b ON LLM_FILTER('Same product?', a.name, b.name), all pairs asked
After:  pairs of near names asked, a sample of the others, and the recall estimated
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import places, uses
from quackllm.optimizer.plan import Block, Partners, Plan, Site, Strategy
from quackllm.optimizer.scope import ANSWER
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import conjuncts, own_nodes
from quackllm.udfs.base import Call

PASSING = (
    exp.Subquery,
    exp.From,
    exp.Where,
    exp.Exists,
    exp.In,
    exp.And,
    exp.Paren,
    exp.Union,
    exp.Intersect,
)
"""Parts of a statement that have more rows, or are TRUE more often, for more rows inside."""

OUTER = -1
"""The source that columns of a query around a correlated one belong to."""


def choose_strategy(plan: Plan, catalog: Catalog) -> Plan:
    """Mark the calls of joins whose pairs need not all be asked."""
    blocks = tuple(_block(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def wanted_strategy(call: Call) -> tuple[str | None, int | None]:
    """The options `strategy` and `candidates` of a call."""
    options = json.loads(call.spec)["options"]
    return options.get("strategy"), options.get("candidates")


def _block(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    sites = tuple(_site(site, block, select, catalog) for site in block.sites)
    if sites == block.sites:
        return block
    # What is asked for some pairs only is not asked in rounds until enough rows are certain.
    # Where the strategy does not pay when the statement runs, rows still look for a partner.
    return replace(
        block,
        sites=sites,
        stop_after=None,
        order=(),
        keys=(),
        counts=(),
        limited=False,
        partners=tuple(each for each in block.partners if _decides_alone(each, sites)),
    )


def _decides_alone(partners: Partners, sites: Sequence[Site]) -> bool:
    """Whether no strategy decides a part only of the condition that makes partners."""
    group = [site for site in sites if site.join == partners.join]
    return len(group) == 1 or all(site.strategy is None for site in group)


def _site(site: Site, block: Block, select: exp.Select, catalog: Catalog) -> Site:
    if site.call.function != "llm_filter":
        return site
    wanted, candidates = wanted_strategy(site.call)
    by_itself = wanted is None
    if wanted is None and catalog.approximate and _only_misses(site, block, select):
        wanted = "block"
    if wanted in (None, "exact") or not _is_condition(site, block, select):
        return site
    sides = _sides(site, block, Sources(select, catalog))
    if sides is None:
        return site
    assert wanted is not None
    return replace(site, strategy=Strategy(wanted, *sides, by_itself, candidates))


def _only_misses(site: Site, block: Block, select: exp.Select) -> bool:
    """Whether a pair left out can only make a row missing, and no early stop asks less.

    What is said about all rows together would be said about fewer.
    """
    if block.stop_after is not None or any(other.is_joint for other in block.sites):
        return False
    if site.join is not None:
        join = select.args["joins"][site.join]
        inner = not join.side and (join.args.get("kind") or "").upper() in ("", "INNER", "SEMI")
        if not inner:
            return False
    return _only_adds_rows(select)


def _only_adds_rows(select: exp.Select) -> bool:
    """Whether a row of a query can only add rows to the statement: not so under NOT, for one.

    A CTE may be read anywhere, and is not looked after.
    """
    node: exp.Expr = select
    while node.parent is not None:
        above = node.parent
        if isinstance(above, exp.Join):
            passes = not above.side and (above.args.get("kind") or "").upper() != "ANTI"
        elif isinstance(above, exp.Select):
            outer = any(join.side for join in above.args.get("joins", []))
            passes = node.arg_key in ("from_", "joins", "where") and not outer
        elif isinstance(above, exp.Anonymous):  # of `unnest_exists`
            passes = above.name == "coalesce"
        else:
            passes = isinstance(above, PASSING)
        if not passes:
            return False
        node = above
    return True


def _is_condition(site: Site, block: Block, select: exp.Select) -> bool:
    """Whether an answer is used as a condition of its own and nowhere else."""
    if any(uses(arg, {site.column}) for other in block.sites for arg in other.args):
        return False
    if site.join is not None:
        condition = select.args["joins"][site.join].args.get("on")
        used = [node for node in own_nodes(condition) if _is_answer(node, site)]
        return all(any(node is part for part in conjuncts(condition)) for node in used)
    where = select.args.get("where")
    parts = conjuncts(where.this) if where is not None else []
    found = places(block, select, site)
    return bool(found) and all(
        clause == "where" and any(path[-1] is part for part in parts) for clause, path in found
    )


def _is_answer(node: exp.Expr, site: Site) -> bool:
    return isinstance(node, exp.Column) and node.name == site.column and not node.table


def _sides(
    site: Site, block: Block, sources: Sources
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Positions of the arguments of the two sides; None where there are not exactly two."""
    read = [_read(arg, site, block, sources) for arg in site.args]
    groups: list[set[int]] = []
    for found in read:
        if found is None:
            return None
        if found:
            tied = [group for group in groups if group & found]
            groups = [group for group in groups if not group & found]
            groups.append(set(found).union(*tied))
    if len(groups) != 2:
        return None
    left, right = sorted(groups, key=min)
    of_right = tuple(at for at, found in enumerate(read) if found and found <= right)
    of_left = tuple(at for at in range(len(read)) if at not in of_right)
    return (of_left, of_right) if left else None


def _read(tree: exp.Expr, site: Site, block: Block, sources: Sources) -> set[int] | None:
    """The sources that an argument reads, also by an earlier answer; None if not clear."""
    if tree.find(exp.Query, exp.Star) is not None:
        return None
    found: set[int] = set()
    for column in tree.find_all(exp.Column):
        if not column.table and column.name.startswith(ANSWER):
            earlier = block.sites[: block.sites.index(site)]
            trees: Sequence[exp.Expr] = next(s.args for s in earlier if s.column == column.name)
            parts = [_read(arg, site, block, sources) for arg in trees]
        elif block.correlated and sources.lacks(column):
            parts = [{OUTER}]
        else:
            source = sources.of(column)
            parts = [None if source is None else {source}]
        for part in parts:
            if part is None:
                return None
            found |= part
    return found
