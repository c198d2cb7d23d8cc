"""A condition of HAVING on the keys of groups is a condition on their rows.

All rows of a group have the same keys, so that a group passes where its rows do. As a condition
of WHERE it decides which rows the calls beside it are about. So does one of QUALIFY on keys by
which all windows are partitioned. DuckDB does the same below our calls when it evaluates them.
Galindo-Legaria and Joshi, "Orthogonal Optimization of Subqueries and Aggregation" (SIGMOD 2001),
for a filter and a GROUP BY that change places.

Before: SELECT film, max(LLM_SCORE('...', body)) FROM r GROUP BY film
        HAVING LLM_FILTER('...', film) AND count(*) > 1
After:  SELECT film, max(LLM_SCORE('...', body)) FROM r WHERE LLM_FILTER('...', film)
        GROUP BY film HAVING count(*) > 1
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import computed_of, group_keys, partition_keys
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import has_grouping_sets, selects
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls


def filter_before_grouping(plan: Plan, catalog: Catalog) -> Plan:
    """Move conditions on keys from HAVING and QUALIFY to WHERE, behind those that stand there."""
    if not any(map(_concerns, plan.selects)):
        return plan
    root = plan.root.copy()
    moved = [_move(select, catalog) for select in selects(root) if _concerns(select)]
    return replace(plan, root=root) if any(moved) else plan


def _concerns(select: exp.Select) -> bool:
    clause = select.args.get("having") or select.args.get("qualify")
    return clause is not None and not select.args.get("sample") and has_calls(select)


def _move(select: exp.Select, catalog: Catalog) -> bool:
    if select.args.get("having") is not None:
        clause, keys = "having", _keys_of_groups(select, catalog)
    else:
        clause, keys = "qualify", partition_keys(select)
    parts = conjuncts(select.args[clause].this)
    moved = [part for part in parts if keys and computed_of(part, keys, catalog)]
    if not moved:
        return False
    left = conjunction([part for part in parts if part not in moved])
    select.set(clause, None if left is None else type(select.args[clause])(this=left))
    where = select.args.get("where")
    known = conjuncts(where.this) if where is not None else []
    select.set("where", exp.Where(this=conjunction([*known, *moved])))
    return True


def _keys_of_groups(select: exp.Select, catalog: Catalog) -> list[exp.Expr]:
    group = select.args.get("group")
    if group is None or group.args.get("all") or has_grouping_sets(select):
        return []
    return [key for key in group_keys(select, catalog) if key.find(exp.Query) is None]
