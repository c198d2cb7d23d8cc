"""A condition of HAVING on the keys of groups is a condition on their rows.

All rows of a group have the same keys, so that a group passes where its rows do. As a condition
of WHERE it decides which rows the calls beside it are about. DuckDB does the same below our calls
when it evaluates them. Galindo-Legaria and Joshi, "Orthogonal Optimization of Subqueries and
Aggregation" (SIGMOD 2001), for a filter and a GROUP BY that change places.

Before: SELECT film, max(LLM_SCORE('...', body)) FROM r GROUP BY film
        HAVING LLM_FILTER('...', film) AND count(*) > 1
After:  SELECT film, max(LLM_SCORE('...', body)) FROM r WHERE LLM_FILTER('...', film)
        GROUP BY film HAVING count(*) > 1
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import group_keys
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import has_grouping_sets, is_aggregate, selects
from quackllm.optimizer.sql import bare, children, conjunction, conjuncts, has_calls


def filter_before_grouping(plan: Plan, catalog: Catalog) -> Plan:
    """Move conditions on keys from HAVING to WHERE, behind those that stand there."""
    if not any(map(_concerns, plan.selects)):
        return plan
    root = plan.root.copy()
    moved = [_move(select, catalog) for select in selects(root) if _concerns(select)]
    return replace(plan, root=root) if any(moved) else plan


def _concerns(select: exp.Select) -> bool:
    group = select.args.get("group")
    if group is None or group.args.get("all") or select.args.get("sample"):
        return False
    having = select.args.get("having")
    return having is not None and not has_grouping_sets(select) and has_calls(select)


def _move(select: exp.Select, catalog: Catalog) -> bool:
    keys = [key for key in group_keys(select, catalog) if key.find(exp.Query) is None]
    parts = conjuncts(select.args["having"].this)
    moved = [part for part in parts if _reads_only(part, keys, catalog)]
    if not moved:
        return False
    left = conjunction([part for part in parts if part not in moved])
    select.set("having", None if left is None else exp.Having(this=left))
    where = select.args.get("where")
    known = conjuncts(where.this) if where is not None else []
    select.set("where", exp.Where(this=conjunction([*known, *moved])))
    return True


def _reads_only(part: exp.Expr, keys: Collection[exp.Expr], catalog: Catalog) -> bool:
    """Whether a condition is computed of keys and constants, the same for all rows of a group."""
    waiting = [part]
    while waiting:
        node = waiting.pop()
        if bare(node) in keys:
            continue
        if isinstance(node, exp.Column | exp.Query | exp.Star | exp.Window):
            return False
        if isinstance(node, exp.Anonymous) and catalog.is_volatile(node.name):
            return False
        if is_aggregate(node, catalog):
            return False
        waiting.extend(children(node))
    return True
