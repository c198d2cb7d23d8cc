"""EXISTS that is tied to the row around it by equalities is IN.

The subquery is then asked once for all outer rows, by distinct tuples, stops at one row of
each key (`first_match`), and is restricted to the outer keys (`push_keys`). The key is kept
from being NULL, and a NULL outside finds nothing, so that the value is never NULL, under NOT
as well. Kim, "On Optimizing an SQL-like Nested Query" (TODS 1982).

Before: FROM m WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.film = m.id AND LLM_FILTER('...', body))
After:  FROM m WHERE NOT coalesce(m.id IN (SELECT r.film FROM r
        WHERE LLM_FILTER('...', body) AND r.film IS NOT NULL), false)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.keys import comparable
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.exists_for_in import CLAUSES
from quackllm.optimizer.rules.push_keys import TWO_VALUED
from quackllm.optimizer.scope import clause_parts, in_scope, rows_of, selects
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls, own_nodes


def unnest_exists(plan: Plan, catalog: Catalog) -> Plan:
    """Write IN for EXISTS whose subquery calls a model and is tied by equalities only."""
    if not plan.has_nested_calls or not plan.holds(exp.Exists):
        return plan
    root = plan.root.copy()
    changed = False
    for select in selects(root):
        for exists in list(_subqueries(select)):
            inside = _uncorrelated(exists, select, catalog)
            if inside is not None:
                exists.replace(inside)
                changed = True
    return replace(plan, root=root) if changed else plan


def _subqueries(select: exp.Select) -> Iterator[exp.Exists]:
    for _, part in clause_parts(select):
        for node in own_nodes(part):
            is_query = isinstance(node, exp.Exists) and isinstance(node.this, exp.Select)
            if isinstance(node, exp.Exists) and is_query and has_calls(node.this):
                yield node


def _uncorrelated(exists: exp.Exists, select: exp.Select, catalog: Catalog) -> exp.Expr | None:
    inner = exists.this
    if any(inner.args.get(name) for name in CLAUSES) or is_grouped(inner, catalog):
        return None
    outside, inside = Sources(select, catalog), Sources(inner, catalog)
    where = inner.args.get("where")
    ties, rest = [], []
    for part in conjuncts(where.this if where else None):
        sides = _tie(part, outside, inside)
        if sides is None:
            rest.append(part)
        else:
            ties.append(sides)
    if not ties or not all(_alike(*sides, select, inner, catalog) for sides in ties):
        return None
    own = [key for _, key in ties]
    nulls = [exp.Is(this=exp.paren(key.copy()), expression=exp.null()) for key in own]
    not_null = [exp.Not(this=test) for test in nulls]
    alone = inner.copy()
    alone.set("distinct", None)
    alone.set("order", None)
    alone.set("expressions", [_row(own)])
    alone.set("where", exp.Where(this=conjunction([*rest, *not_null])))
    if catalog.columns(in_scope(inner, alone)) is None:  # it reads more of the row around it
        return None
    test = exp.In(this=_row([key for key, _ in ties]), query=exp.Subquery(this=alone))
    test.meta[TWO_VALUED] = True
    return exp.Anonymous(this="coalesce", expressions=[test, exp.false()])


def _tie(part: exp.Expr, outside: Sources, inside: Sources) -> tuple[exp.Expr, exp.Expr] | None:
    """The outer and the inner side of an equality between them."""
    if not isinstance(part, exp.EQ) or has_calls(part):
        return None
    for outer, inner in ((part.left, part.right), (part.right, part.left)):
        columns = list(outer.find_all(exp.Column))
        from_outside = columns and all(inside.lacks(column) for column in columns)
        if from_outside and outside.all_of(outer) and inside.all_of(inner):
            return outer, inner
    return None


def _alike(
    outer: exp.Expr, inner: exp.Expr, select: exp.Select, query: exp.Select, catalog: Catalog
) -> bool:
    left = in_scope(select, rows_of(select, [outer.copy()]))
    right = in_scope(query, rows_of(query, [inner.copy()]))
    return comparable(left, right, catalog)


def _row(keys: list[exp.Expr]) -> exp.Expr:
    if len(keys) == 1:
        return keys[0].copy()
    return exp.Anonymous(this="row", expressions=[key.copy() for key in keys])
