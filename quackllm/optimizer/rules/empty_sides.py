"""A query that is joined with nothing asks for nothing.

Where another side of a join has no row under its own conditions, no row of the query counts,
however its rows depend on one another. DuckDB does not run the one side of a join when the
other one turns out to be empty. Sides that an equality ties to the query are left to
`push_keys`, which restricts it to their keys.

Before: FROM (SELECT DISTINCT ON (film) film, LLM('...', body) AS why FROM r) d, m
        WHERE m.year > 2050
After:  FROM (SELECT DISTINCT ON (film) film, LLM('...', body) AS why FROM r
        WHERE EXISTS (SELECT 1 FROM m WHERE m.year > 2050)) d, m WHERE m.year > 2050
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.keys import Equalities, restricts
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.push_filters import body_of, ctes_read_once, reads_calls
from quackllm.optimizer.rules.push_keys import filters_freely, restrict
from quackllm.optimizer.scope import has_nested_calls, in_recursive_cte, in_scope, selects


def empty_sides(plan: Plan, catalog: Catalog) -> Plan:
    """Ask in joined queries with calls whether the sides that are not tied to them have rows."""
    if not has_nested_calls(plan.root):
        return plan
    root = plan.root.copy()
    changed = False
    read_once = ctes_read_once(root)
    for select in reversed(selects(root)):  # outer queries first: conditions move on
        joined = select.args.get("joins") and filters_freely(select)
        if joined and not in_recursive_cte(select):
            changed |= _restrict_sides(Equalities(select, catalog), read_once, catalog)
    return replace(plan, root=root) if changed else plan


def _restrict_sides(
    equalities: Equalities, read_once: Mapping[str, exp.Expr], catalog: Catalog
) -> bool:
    joins = equalities.select.args["joins"]
    changed = False
    for position, source in enumerate(equalities.sources.trees):
        inner = body_of(source, read_once)
        if not isinstance(inner, exp.Select) or not reads_calls(inner, read_once):
            continue
        if position and not restricts(joins[position - 1]):
            continue
        for rows in equalities.untied(position):
            there = equalities.spelled_out(rows, inner)
            if there is not None and catalog.columns(in_scope(inner, there.copy())) is not None:
                restrict(inner, exp.Exists(this=there))
                changed = True
    return changed
