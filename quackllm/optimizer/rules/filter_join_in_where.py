"""A model's condition of an inner join is a condition on the joined rows.

Before: FROM a JOIN b ON a.k = b.k AND LLM_FILTER('...', a.x, b.y)
After:  FROM a JOIN b ON a.k = b.k WHERE LLM_FILTER('...', a.x, b.y)

Only inner joins that no later RIGHT or FULL join extends with NULLs. A column that stands
in a later source too gets the name of its own.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import in_scope, rows_of, selects
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import conjunction, conjuncts, find_all, own_calls


def filter_join_in_where(plan: Plan, catalog: Catalog) -> Plan:
    """Move conjuncts that call a model from the ON of inner joins to WHERE."""
    if not any(own_calls(join.args.get("on")) for join in find_all(plan.root, exp.Join)):
        return plan
    root = plan.root.copy()
    moved = [_move(select, catalog) for select in selects(root)]
    return replace(plan, root=root) if any(moved) else plan


def _move(select: exp.Select, catalog: Catalog) -> bool:
    moved: list[exp.Expr] = []
    joins = select.args.get("joins", [])
    sources = Sources(select, catalog)
    for number, join in enumerate(joins):
        if not _is_inner(join) or any(_extends_left(later) for later in joins[number + 1 :]):
            continue
        parts = conjuncts(join.args.get("on"))
        calling = {id(part): _in_where(part, number, select, sources, catalog) for part in parts}
        found = [part for part in calling.values() if part is not None]
        if found:
            stay = [part for part in parts if calling[id(part)] is None]
            join.set("on", conjunction(stay) or exp.true())
            moved.extend(found)
    if moved:
        where = select.args.get("where")
        parts = conjuncts(where.this if where else None)
        select.set("where", exp.Where(this=conjunction([*parts, *moved])))
    return bool(moved)


def _in_where(
    part: exp.Expr, number: int, select: exp.Select, sources: Sources, catalog: Catalog
) -> exp.Expr | None:
    """A condition of join `number` as WHERE may hold it; None when it is to stay."""
    if not own_calls(part):
        return None
    last = number + 1 == len(select.args["joins"])
    if last or catalog.columns(in_scope(select, rows_of(select, [part.copy()]))) is not None:
        return part
    return sources.qualified(part, number + 2)


def _is_inner(join: exp.Join) -> bool:
    kind = (join.args.get("kind") or "").upper()
    return not join.side and not join.method and kind in ("", "INNER") and bool(join.args.get("on"))


def _extends_left(join: exp.Join) -> bool:
    return (join.side or "").upper() in ("RIGHT", "FULL")
