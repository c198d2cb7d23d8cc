"""A query that can give no row asks for nothing, nor do the queries that it reads.

Tools ask so for the columns of a query: SELECT * FROM (...) WHERE 1 = 0. DuckDB drops
what stands below such a condition, and below HAVING false and LIMIT 0.

Before: SELECT * FROM (SELECT id, LLM('...', body) AS why FROM x) AS d WHERE 1 = 0
After:  SELECT * FROM (SELECT id, LLM('...', body) AS why FROM x WHERE FALSE) AS d WHERE 1 = 0
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.early_stop import number
from quackllm.optimizer.scope import queries, selects, source_parts
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls

ROWWISE = (exp.Column, exp.Query, exp.Star, exp.Anonymous)
"""Parts of a condition that has no constant value, or whose value is not known here."""

COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.Like, exp.ILike)
"""Conditions that are not TRUE when an operand is NULL."""


def empty_queries(plan: Plan, catalog: Catalog) -> Plan:
    """Add WHERE FALSE to queries with calls whose rows nothing can come of.

    ON of an outer join, which WHERE does not restrict, is then FALSE too.
    """
    if not any(_emptied(plan.root, catalog)) and not any(_asking_joins(plan.root, catalog)):
        return plan
    root = plan.root.copy()
    for select in list(_emptied(root, catalog)):
        where = select.args.get("where")
        parts = conjuncts(where.this if where else None)
        select.set("where", exp.Where(this=conjunction([exp.false(), *parts])))
    for join in list(_asking_joins(root, catalog)):
        join.set("on", exp.false())
    return replace(plan, root=root)


def _asking_joins(root: exp.Expr, catalog: Catalog) -> Iterator[exp.Join]:
    """Yield the joins with calls in ON of queries whose WHERE leaves no row of them."""
    for select in selects(root):
        joins = (join for join in select.args.get("joins", ()) if not join.method)  # as of ASOF
        asking = [join for join in joins if has_calls(join.args.get("on"))]
        if asking and _never_true(select.args.get("where"), catalog):
            yield from asking


def _emptied(root: exp.Expr, catalog: Catalog) -> Iterator[exp.Select]:
    """Yield the SELECTs with calls that are not known to be empty yet, once each."""
    seen: set[int] = set()
    for query in queries(root):
        if not has_calls(query):
            continue
        for tree in _in_vain(query, catalog):
            for select in selects(tree):
                where = select.args.get("where")
                if id(select) in seen or not has_calls(select) or _never_true(where, catalog):
                    continue
                seen.add(id(select))
                yield select


def _in_vain(query: exp.Query, catalog: Catalog) -> list[exp.Expr]:
    """The parts of a query that no row of its result depends on."""
    limit = query.args.get("limit")
    percent = limit is not None and limit.args.get("limit_options")
    if isinstance(limit, exp.Limit) and not percent and number(limit.expression, catalog) == 0:
        return [query]
    if _never_true(query.args.get("having"), catalog):
        return [query]
    if not isinstance(query, exp.Select) or not _never_true(query.args.get("where"), catalog):
        return []
    # Without keys there is one group even so, and its one row is computed.
    return source_parts(query) if is_grouped(query, catalog) else [query]


def _never_true(clause: exp.Expr | None, catalog: Catalog) -> bool:
    return clause is not None and _rejects(clause.this, catalog)


def _operands(comparison: exp.Expr) -> list[exp.Expr]:
    named = ("this", "expression", "low", "high")
    return [part for part in map(comparison.args.get, named) if isinstance(part, exp.Expr)]


def _is_null(operand: exp.Expr, catalog: Catalog) -> bool:
    """Whether an operand is a constant that is NULL, such as NULL::INTEGER."""
    if operand.find(exp.Null) is None or operand.find(*ROWWISE) or has_calls(operand):
        return False
    return catalog.is_never_true(exp.Not(this=exp.Is(this=operand.copy(), expression=exp.null())))


def _rejects(condition: exp.Expr, catalog: Catalog) -> bool:
    """Whether a condition is FALSE or NULL for every row."""
    node = condition.unnest()
    if isinstance(node, exp.And):
        return _rejects(node.left, catalog) or _rejects(node.right, catalog)
    if isinstance(node, exp.Or):
        return _rejects(node.left, catalog) and _rejects(node.right, catalog)
    if isinstance(node, COMPARISONS) and any(_is_null(part, catalog) for part in _operands(node)):
        return True
    return node.find(*ROWWISE) is None and not has_calls(node) and catalog.is_never_true(node)
