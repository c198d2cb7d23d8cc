"""Rows that could differ from one evaluation to the next are fetched once.

A staged block reads its FROM several times: to find its argument tuples and to form
its rows. A derived table or CTE with a LIMIT, a sample or a volatile function may
give other rows each time, so its rows are kept.

Before: FROM (SELECT * FROM x USING SAMPLE 100) s WHERE LLM_FILTER('...', s.body)
After:  kept := SELECT * FROM x USING SAMPLE 100; FROM kept s WHERE LLM_FILTER('...', s.body)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import MATERIALIZE, Plan
from quackllm.optimizer.scope import in_recursive_cte, in_scope
from quackllm.optimizer.sql import find_all, has_calls, is_parenthesised_join


def materialize_unstable(plan: Plan, catalog: Catalog) -> Plan:
    """Mark unstable derived tables and CTEs, outermost first, of a statement with calls."""
    if not has_calls(plan.root) or not any(_unstable(q, catalog) for q in _derived(plan.root)):
        return plan
    root = plan.root.copy()
    marked = 0
    for query in _derived(root):
        if _is_marked(query) or not _unstable(query, catalog) or _kept_inside(query, catalog):
            continue
        if _stands_alone(query, catalog):
            marked += 1
            query.meta[MATERIALIZE] = f"unstable {marked}"
    return replace(plan, root=root) if marked else plan


def _derived(root: exp.Expr) -> Iterator[exp.Query]:
    for node in find_all(root, exp.Subquery, exp.CTE):
        in_from = isinstance(node.parent, exp.From | exp.Join) and not is_parenthesised_join(node)
        if isinstance(node.this, exp.Query) and (isinstance(node, exp.CTE) or in_from):
            yield node.this


def _is_marked(query: exp.Query) -> bool:
    node: exp.Expr | None = query
    while node is not None:
        if node.meta_get(MATERIALIZE):
            return True
        node = node.parent
    return False


def _unstable(query: exp.Query, catalog: Catalog) -> bool:
    return any(_is_unstable(node, catalog) for node in query.walk())


def _is_unstable(node: exp.Expr, catalog: Catalog) -> bool:
    if isinstance(node, exp.Limit | exp.Fetch | exp.TableSample):
        return True
    return isinstance(node, exp.Anonymous) and catalog.is_volatile(node.name)


def _kept_inside(query: exp.Query, catalog: Catalog) -> bool:
    """Whether all that is unstable in a query with calls is in derived tables that can be kept.

    Its calls can be staged then: they are asked about rows that stay the same.
    """
    if not has_calls(query):
        return False
    inside = list(_outermost(query))
    own = query.walk(prune=lambda node: any(node is other for other in inside))
    if any(_is_unstable(node, catalog) for node in own if all(node is not q for q in inside)):
        return False
    return all(_stands_alone(q, catalog) for q in inside if _unstable(q, catalog))


def _outermost(query: exp.Query) -> Iterator[exp.Query]:
    """The derived tables and CTEs of a query that are in no other one of it."""
    found = {id(inner) for inner in _derived(query)}
    for node in query.walk(prune=lambda node: id(node) in found):
        if id(node) in found and isinstance(node, exp.Query):
            yield node


def _stands_alone(query: exp.Query, catalog: Catalog) -> bool:
    if in_recursive_cte(query):
        return False
    return catalog.columns(in_scope(query, query.copy())) is not None
