"""A query that is joined with nothing asks for nothing.

Where another side of a join has no row under its own conditions, no row of the query counts,
however its rows depend on one another. DuckDB does not run the one side of a join when the
other one turns out to be empty; likewise of INTERSECT, and of EXCEPT without rows on its left.
Sides that an equality ties to the query are left to
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
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.keys import Equalities, restricts
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.push_filters import body_of, ctes_read_once, reads_calls
from quackllm.optimizer.rules.push_keys import filters_freely, restrict
from quackllm.optimizer.scope import (
    enclosing,
    in_recursive_cte,
    in_scope,
    rows_of,
    selects,
)
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls


def empty_sides(plan: Plan, catalog: Catalog) -> Plan:
    """Ask in joined queries with calls whether the sides that are not tied to them have rows."""
    if not plan.has_nested_calls or not plan.holds(exp.Join, exp.Intersect, exp.Except):
        return plan
    root = plan.root.copy()
    changed = False
    read_once = ctes_read_once(root)
    for select in reversed(selects(root)):  # outer queries first: conditions move on
        joined = select.args.get("joins") and filters_freely(select)
        if joined and not in_recursive_cte(select):
            changed |= _restrict_sides(Equalities(select, catalog), read_once, catalog)
    for both in root.find_all(exp.Intersect, exp.Except):
        if not in_recursive_cte(both):
            changed |= _restrict_operands(both, catalog)
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


def _restrict_operands(both: exp.SetOperation, catalog: Catalog) -> bool:
    """Ask an operand of INTERSECT, and the right one of EXCEPT, only where the other has rows."""
    left, right = both.this, both.expression
    pairs = [(right, left)] if isinstance(both, exp.Except) else [(left, right), (right, left)]
    found = [
        (inner, rows)
        for inner, other in pairs
        if isinstance(inner, exp.Select) and has_calls(inner)
        for rows in [_rows_at_most(other, catalog)]
        if rows is not None and inner.args.get("with_") is None
    ]
    for inner, rows in found:
        restrict(inner, exp.Exists(this=rows))
    return bool(found)


def _rows_at_most(query: exp.Expr, catalog: Catalog) -> exp.Select | None:
    """Select all rows of a query and perhaps more, without its calls and its columns."""
    if not isinstance(query, exp.Select) or enclosing(query) is not None:
        return None
    if query.args.get("with_") is not None or is_grouped(query, catalog):
        return None  # other clauses than these take rows away, and add none
    rows = rows_of(query, [exp.Literal.number(1)])
    where = query.args.get("where")
    free = [part for part in conjuncts(where.this if where else None) if not has_calls(part)]
    if free:
        rows.set("where", exp.Where(this=conjunction(free)))
    stable = not has_calls(rows) and not any(
        catalog.is_volatile(node.name) for node in rows.find_all(exp.Anonymous)
    )
    bound = catalog.columns(in_scope(query, rows.copy())) if stable else None
    return None if bound is None or rows.find(exp.TableSample) is not None else rows
