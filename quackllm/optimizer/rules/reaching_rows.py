"""A call is asked only for rows that pass the conditions before it.

A conjunct of WHERE is evaluated on rows that the conjuncts before it accept; what
stands in other clauses, on rows that the whole of WHERE accepts.

Before: SELECT LLM('r', t) FROM x WHERE a > 1 AND LLM_FILTER('p', t) AND LLM_FILTER('q', t),
        all rows of x asked p, q and r
After:  p asked where a > 1; q where p answered true as well; r where q did too
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import add_guards
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.sql import conjuncts


def reaching_rows(plan: Plan, catalog: Catalog) -> Plan:
    """Guard every call by the conjuncts of WHERE that come before it."""
    return add_guards(plan, catalog, _before)


def _before(select: exp.Select, clause: str, path: list[exp.Expr]) -> list[exp.Expr]:
    where = select.args.get("where")
    parts = conjuncts(where.this) if where is not None else []
    if clause != "where":
        return parts
    position = next(i for i, part in enumerate(parts) if any(node is part for node in path))
    return parts[:position]
