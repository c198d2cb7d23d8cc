"""An outer join whose added rows WHERE rejects is an inner join.

A row without a partner has NULL in every column of the other side. Where a condition of
WHERE, or of an inner join behind it, is not TRUE for such NULLs, the row need not be made;
the calls in ON are then asked like those in WHERE, after everything that is free. A call is
NULL when all its arguments are, so conditions with calls count as well. Galindo-Legaria
and Rosenthal, "Outerjoin Simplification and Reordering" (TODS 1997).

Before: FROM m LEFT JOIN r ON r.m = m.id AND LLM_FILTER('...', r.body) WHERE r.stars > 3
After:  FROM m JOIN r ON r.m = m.id AND LLM_FILTER('...', r.body) WHERE r.stars > 3
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import selects
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import conjuncts, has_calls

OUTER = ("LEFT", "RIGHT", "FULL")


def outer_to_inner(plan: Plan, catalog: Catalog) -> Plan:
    """Simplify the outer joins of blocks with calls."""
    if not any(map(_applies, plan.selects)):
        return plan
    root = plan.root.copy()
    applies = filter(_applies, selects(root))
    changed = [_simplify(select, Sources(select, catalog)) for select in applies]
    return replace(plan, root=root) if any(changed) else plan


def _applies(select: exp.Select) -> bool:
    joins = select.args.get("joins", [])
    outer = any(_side(join) in OUTER for join in joins)
    return outer and not any(join.method for join in joins) and has_calls(select)


def _simplify(select: exp.Select, sources: Sources) -> bool:
    joins = select.args["joins"]
    where = select.args.get("where")
    changed = False
    while True:
        rejected = _rejected(conjuncts(where.this if where else None), sources)
        simplified = []
        for at, join in reversed(list(enumerate(joins))):
            simplified.append(_without_added_rows(join, at, rejected))
            if is_inner(join):  # its condition sees rows of the joins before it, not of later ones
                rejected |= _rejected(conjuncts(join.args.get("on")), sources)
        if not any(simplified):
            return changed
        changed = True  # a join that has become inner may decide another one


def _rejected(parts: list[exp.Expr], sources: Sources) -> frozenset[int]:
    return frozenset().union(*map(sources.rejected, parts))


def _without_added_rows(join: exp.Join, position: int, rejected: frozenset[int]) -> bool:
    """Take the added rows from a join; the source that it joins is number position + 1."""
    side = _side(join)
    without_right = position + 1 in rejected
    without_left = any(source <= position for source in rejected)
    keeps_left = side in ("LEFT", "FULL") and not without_right
    keeps_right = side in ("RIGHT", "FULL") and not without_left
    after = {
        (True, True): "FULL",
        (True, False): "LEFT",
        (False, True): "RIGHT",
        (False, False): "",
    }[keeps_left, keeps_right]
    if side not in OUTER or after == side:
        return False
    join.set("side", after or None)
    if not after:
        join.set("kind", None)
    return True


def is_inner(join: exp.Join) -> bool:
    """Whether a join keeps only pairs of rows that its condition accepts."""
    kind = (join.args.get("kind") or "").upper()
    return not join.side and not join.method and kind in ("", "INNER", "CROSS")


def _side(join: exp.Join) -> str:
    return (join.side or "").upper()
