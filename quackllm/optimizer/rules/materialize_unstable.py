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
from quackllm.optimizer.sql import find_all, has_calls


def materialize_unstable(plan: Plan, catalog: Catalog) -> Plan:
    """Mark unstable derived tables and CTEs, outermost first, of a statement with calls."""
    if not has_calls(plan.root) or not any(_unstable(q, catalog) for q in _derived(plan.root)):
        return plan
    root = plan.root.copy()
    marked = 0
    for query in _derived(root):
        if not _is_marked(query) and _unstable(query, catalog) and _stands_alone(query, catalog):
            marked += 1
            query.meta[MATERIALIZE] = f"unstable {marked}"
    return replace(plan, root=root) if marked else plan


def _derived(root: exp.Expr) -> Iterator[exp.Query]:
    for node in find_all(root, exp.Subquery, exp.CTE):
        in_from = isinstance(node.parent, exp.From | exp.Join)
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
    for node in query.walk():
        if isinstance(node, exp.Limit | exp.Fetch | exp.TableSample):
            return True
        if isinstance(node, exp.Anonymous) and catalog.is_volatile(node.name):
            return True
    return False


def _stands_alone(query: exp.Query, catalog: Catalog) -> bool:
    if in_recursive_cte(query):
        return False
    return catalog.columns(in_scope(query, query.copy())) is not None
