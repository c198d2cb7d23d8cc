"""A conjunct is asked only for rows that all conjuncts before it accept.

Before: WHERE a > 1 AND LLM_FILTER('p', t) AND LLM_FILTER('q', t), all rows asked p and q
After:  p asked where a > 1; q asked where a > 1 and p answered true
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import add_guards
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.sql import conjuncts


def predicates_in_sequence(plan: Plan, catalog: Catalog) -> Plan:
    """Guard the calls of each conjunct of WHERE by the conjuncts before it."""
    return add_guards(plan, catalog, _earlier_conjuncts)


def _earlier_conjuncts(
    select: exp.Select, clause: str, path: list[exp.Expression]
) -> list[exp.Expression]:
    where = select.args.get("where")
    if clause != "where" or where is None:
        return []
    parts = conjuncts(where.this)
    position = next(i for i, part in enumerate(parts) if any(node is part for node in path))
    return parts[:position]
