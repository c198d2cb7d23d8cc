"""The arguments of a call are looked for in the sources that it reads.

A source that is joined without a condition, and that neither the call nor what guards it reads,
has to have a row, whichever. So the tuples of `LLM_CLASSIFY(a.x, ...) = LLM_CLASSIFY(b.y, ...)`
are found in the rows of each table, not in their product; DuckDB joins the answers by a hash
join.

Before: SELECT DISTINCT a.x FROM a CROSS JOIN b
After:  SELECT DISTINCT a.x FROM a WHERE EXISTS (SELECT 1 FROM b)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import uses
from quackllm.optimizer.plan import Block, Plan, Site
from quackllm.optimizer.scope import ANSWER
from quackllm.optimizer.sources import Sources


def own_sources(plan: Plan, catalog: Catalog) -> Plan:
    """Say of each site which sources it does not read."""
    blocks = tuple(_block(block, plan.select_of(block), catalog) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _block(block: Block, select: exp.Select, catalog: Catalog) -> Block:
    if len(select.args.get("joins", [])) == 0 or not _is_simple(block, select):
        return block
    sources = Sources(select, catalog)
    free = _free(select, sources)
    if not free:
        return block
    sites = []
    for site in block.sites:
        read = _read(site, block, sources)
        unread = () if not read else tuple(sorted(free - read))
        sites.append(replace(site, unread=unread) if unread else site)
    return replace(block, sites=tuple(sites))


def _is_simple(block: Block, select: exp.Select) -> bool:
    """Whether each site may be asked of rows of its own: none in a join, no early stop."""
    in_where = all(site.join is None for site in block.sites)
    others = select.args.get("laterals") or block.correlated
    return in_where and block.stop_after is None and not others


def _free(select: exp.Select, sources: Sources) -> frozenset[int]:
    """Sources that no condition of a join ties to others, and that can be read alone."""
    tied: set[int] = set()
    for position, join in enumerate(select.args["joins"], start=1):
        kind = (join.args.get("kind") or "").upper()
        if join.side or join.method or join.args.get("using") or kind not in ("", "INNER", "CROSS"):
            return frozenset()
        condition = join.args.get("on")
        if condition is None or condition.unnest() == exp.true():
            continue
        read = sources.all_of(condition)
        if read is None:
            return frozenset()
        tied |= {position, *read}
    everything = frozenset(range(len(sources.trees)))
    # A source that reads another one, as a lateral query does, cannot be left with the others.
    return (
        everything - tied if all(_stands_alone(at, sources) for at in everything) else frozenset()
    )


def _stands_alone(source: int, sources: Sources) -> bool:
    tree = sources.trees[source]
    return isinstance(tree, exp.Table | exp.Subquery) and sources.stands_alone(source)


def _read(site: Site, block: Block, sources: Sources) -> frozenset[int] | None:
    """The sources that a call and its guards read, also by earlier answers; None if not clear."""
    found: set[int] = set()
    for part in _parts(site, block):
        if part.find(exp.Query, exp.Star) is not None:
            return None
        for column in part.find_all(exp.Column):
            if not column.table and column.name.startswith(ANSWER):
                continue
            source = sources.of(column)
            if source is None:
                return None
            found.add(source)
    return frozenset(found)


def _parts(site: Site, block: Block) -> Iterator[exp.Expr]:
    """The arguments and guards of a site, and of those earlier ones whose answers they use."""
    own = [*site.args, *site.guards]
    yield from own
    for other in block.sites[: block.sites.index(site)]:
        if any(uses(part, {other.column}) for part in own):
            yield from _parts(other, block)
