"""IN whose subquery reads the row around it is EXISTS where only TRUE counts.

As a condition of WHERE, NULL and FALSE are the same, so that a row that finds its value needs
no other: pairs of other values are not asked, and `first_partner` stops at the first match.
NOT IN is TRUE where no value is equal and none leaves that open. Likewise `= ANY` and `<> ALL`.
Kim, "On Optimizing an SQL-like Nested Query" (TODS 1982).

Before: FROM a WHERE a.g IN (SELECT b.g FROM b WHERE LLM_FILTER('...', a.x, b.y)), all pairs asked
After:  FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.g = b.g AND LLM_FILTER('...', a.x, b.y))
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.keys import comparable
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.stage_calls import is_grouped
from quackllm.optimizer.scope import after_grouping, in_scope, rows_of, selects
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import bare, conjunction, conjuncts, has_calls

CLAUSES = ("group", "having", "qualify", "windows", "limit", "offset", "sample", "with_")
"""Clauses of the subquery beside which it is left as it is."""


def exists_for_in(plan: Plan, catalog: Catalog) -> Plan:
    """Write EXISTS for IN whose subquery calls a model about the row around it."""
    if not plan.has_nested_calls or not plan.holds(exp.In, exp.Any, exp.All):
        return plan
    root = plan.root.copy()
    changed = False
    for select in selects(root):
        where = select.args.get("where")
        for part in conjuncts(where.this if where else None):
            written = _exists(part, select, catalog)
            if written is not None:
                part.replace(written)
                changed = True
    return replace(plan, root=root) if changed else plan


def _exists(part: exp.Expr, select: exp.Select, catalog: Catalog) -> exp.Expr | None:
    """The condition as EXISTS; None where it is another one, or cannot be written so."""
    found = _membership(part)
    if found is None:
        return None
    value, inner, negated = found
    item = _item(inner, catalog)
    if item is None:
        return None
    outside, inside = Sources(select, catalog), Sources(inner, catalog)
    outer = outside.qualified(value, len(outside.trees))
    own = inside.qualified(item, len(inside.trees))
    if outer is None or own is None or not all(map(inside.lacks, outer.find_all(exp.Column))):
        return None
    left = in_scope(select, rows_of(select, [outer.copy()]))
    right = in_scope(inner, rows_of(inner, [own.copy()]))
    if not comparable(left, right, catalog):
        return None
    if catalog.columns(in_scope(inner, inner.copy())) is not None:  # it is asked once for all rows
        return None
    return _written(inner, exp.EQ(this=outer, expression=own), negated=negated)


def _membership(part: exp.Expr) -> tuple[exp.Expr, exp.Select, bool] | None:
    """The value, the query and the negation of a test whether a value is among others."""
    node, negated = bare(part), False
    while isinstance(node, exp.Not):
        node, negated = bare(node.this), not negated
    query: exp.Expr | None = None
    if isinstance(node, exp.In):
        query = node.args.get("query")
    elif isinstance(node, exp.EQ) and isinstance(node.expression, exp.Any):
        query = node.expression.this
    elif isinstance(node, exp.NEQ) and isinstance(node.expression, exp.All):
        query, negated = node.expression.this, not negated
    inner = query.unnest() if isinstance(query, exp.Subquery) else query
    if not isinstance(inner, exp.Select) or not has_calls(inner):
        return None
    return node.this, inner, negated


def _item(inner: exp.Select, catalog: Catalog) -> exp.Expr | None:
    """What a plain query selects, where that is one value for each of its rows."""
    if any(inner.args.get(name) for name in CLAUSES) or is_grouped(inner, catalog):
        return None
    distinct = inner.args.get("distinct")
    if len(inner.expressions) != 1 or (distinct is not None and distinct.args.get("on")):
        return None
    item: exp.Expr = inner.expressions[0].unalias()
    several = after_grouping(item, catalog) or item.find(exp.Explode, exp.Anonymous)
    return None if is_star(item) or has_calls(item) or several else item


def _written(inner: exp.Select, equality: exp.EQ, *, negated: bool) -> exp.Expr:
    query = inner.copy()
    tie: exp.Expr = equality
    if negated:  # a NULL among the values leaves it open whether one is equal
        tie = exp.Not(this=exp.Is(this=exp.paren(equality), expression=exp.false()))
    where = query.args.get("where")
    query.set("distinct", None)
    query.set("order", None)
    query.set("expressions", [exp.Literal.number(1)])
    whole = conjunction([tie, *([where.this] if where else [])])
    query.set("where", exp.Where(this=whole))
    exists = exp.Exists(this=query)
    return exp.Not(this=exists) if negated else exists
