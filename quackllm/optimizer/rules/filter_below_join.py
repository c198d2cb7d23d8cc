"""A condition on the left side of a join comes before the calls that it makes for each row.

A left, semi or anti join never adds a row to its left side, so what WHERE rejects there
need not be joined, and no call of ON, nor of a lateral query, has to be asked of it. Conditions
without calls are taken into account by `stage_calls`; one that calls a model is put below the join.

Before: FROM m LEFT JOIN r ON r.m = m.id AND LLM_FILTER('a', r.body)
        WHERE LLM_FILTER('b', m.title)
After:  FROM (SELECT * FROM m WHERE LLM_FILTER('b', m.title)) m
        LEFT JOIN r ON r.m = m.id AND LLM_FILTER('a', r.body)
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import in_scope, selects
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls, held, own_calls, released


def filter_below_join(plan: Plan, catalog: Catalog) -> Plan:
    """Move conditions with calls on the first source below joins that call a model for its rows."""
    if not any(map(_applies, plan.selects)):
        return plan
    root = held(plan.root.copy())
    changed = False
    for select in selects(root):
        if _applies(select):
            moved = _moved(select, catalog)
            if moved is not None:
                select.replace(moved)
                changed = True
    return replace(plan, root=released(root)) if changed else plan


def _applies(select: exp.Select) -> bool:
    joins = select.args.get("joins", [])
    keeps_left = not any((join.side or "").upper() in ("RIGHT", "FULL") for join in joins)
    return (
        select.args.get("where") is not None
        and select.args.get("from_") is not None
        and isinstance(select.args["from_"].this, exp.Table | exp.Subquery)
        and keeps_left
        and not any(join.method for join in joins)
        and any(map(_calls_for_rows, joins))
    )


def _calls_for_rows(join: exp.Join) -> bool:
    """Whether a join asks for rows on its left: in its condition, or in a lateral query."""
    if isinstance(join.this, exp.Lateral) and has_calls(join.this):
        return True
    return bool(own_calls(join.args.get("on")))


def _moved(select: exp.Select, catalog: Catalog) -> exp.Select | None:
    sources = Sources(select, catalog)
    parts = conjuncts(select.args["where"].this)
    left = [part for part in parts if sources.all_of(part) == frozenset({0})]
    calling = [part for part in left if has_calls(part)]
    columns = catalog.columns(in_scope(select, select.copy()))
    if not calling or columns is None:
        return None
    copy = select.copy()
    source = copy.args["from_"].this
    below = exp.Select(expressions=[exp.Star()]).from_(source.copy())
    below.set("where", exp.Where(this=conjunction(left)))
    name = exp.TableAlias(this=exp.to_identifier(source.alias_or_name, quoted=True))
    source.replace(exp.Subquery(this=below, alias=name))
    stay = conjunction([part for part in parts if not any(part is one for one in calling)])
    copy.set("where", None if stay is None else exp.Where(this=stay))
    return copy if catalog.columns(in_scope(select, copy.copy())) == columns else None
