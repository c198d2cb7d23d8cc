"""A call outside WHERE is asked only for rows that WHERE accepts.

Before: SELECT LLM('...', t) FROM x WHERE year > 2015, all rows of x asked
After:  rows with year > 2015 asked
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import add_guards
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.sql import conjuncts


def project_after_filter(plan: Plan, catalog: Catalog) -> Plan:
    """Guard calls of the other clauses by the whole of WHERE."""
    return add_guards(plan, catalog, _where)


def _where(select: exp.Select, clause: str, path: list[exp.Expression]) -> list[exp.Expression]:
    where = select.args.get("where")
    return conjuncts(where.this) if where is not None and clause != "where" else []
