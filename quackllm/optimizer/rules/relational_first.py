"""Predicates that DuckDB decides come before predicates that call a model.

A row that a comparison rejects costs nothing; one that a model rejects costs a call.
Hellerstein and Stonebraker, "Predicate Migration" (SIGMOD 1993), for the extreme
where one kind of predicate is free.

Before: WHERE LLM_FILTER('...', body) AND year > 2015
After:  WHERE year > 2015 AND LLM_FILTER('...', body)
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import selects
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls


def relational_first(plan: Plan, catalog: Catalog) -> Plan:
    """Put the conjuncts without calls first, otherwise in the order written."""
    root = plan.root.copy()
    changed = False
    for select in selects(root):
        where = select.args.get("where")
        parts = conjuncts(where.this) if where else []
        ordered = sorted(parts, key=has_calls)
        if any(before is not after for before, after in zip(parts, ordered, strict=True)):
            select.set("where", exp.Where(this=conjunction(ordered)))
            changed = True
    return replace(plan, root=root) if changed else plan
