"""Predicates that call a model are asked in the order that costs the least.

Of independent predicates the one with the lowest cost / (1 - selectivity) comes first:
Hellerstein and Stonebraker, "Predicate Migration" (SIGMOD 1993). Both figures come
from a sample of the statement's own rows, whose answers are kept (see
`quackllm.optimizer.sampling`); without a sample the order stays as written.

Before: WHERE LLM_FILTER('long, accepts 90 %', body) AND LLM_FILTER('short, accepts 10 %', title)
After:  WHERE LLM_FILTER('short, accepts 10 %', title) AND LLM_FILTER('long, accepts 90 %', body)
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog, PredicateStatistics
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import selects
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls

NEVER_REJECTS = 1e-6
"""Least share of rejected rows that is assumed of a predicate that accepted the sample."""


def order_predicates(plan: Plan, catalog: Catalog) -> Plan:
    """Sort the conjuncts with calls by cost / (1 - selectivity), where both are known."""
    root = plan.root.copy()
    changed = False
    for select in selects(root):
        where = select.args.get("where")
        parts = conjuncts(where.this) if where else []
        known = {id(part): catalog.statistics(part) for part in parts if has_calls(part)}
        if len(known) < 2 or None in known.values():
            continue
        free = [part for part in parts if id(part) not in known]
        calling = [part for part in parts if id(part) in known]
        ordered = sorted(calling, key=lambda part: rank(known[id(part)]))
        if ordered != calling:
            select.set("where", exp.Where(this=conjunction([*free, *ordered])))
            changed = True
    return replace(plan, root=root) if changed else plan


def rank(statistics: PredicateStatistics | None) -> float:
    """Tokens spent for each row rejected."""
    assert statistics is not None
    return statistics.tokens / max(1 - statistics.selectivity, NEVER_REJECTS)
