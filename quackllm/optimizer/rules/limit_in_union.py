"""LIMIT of a UNION ALL is a LIMIT of each of its operands.

The rows that LIMIT leaves are at most so many rows of each operand, so an operand may stop
as soon as it has them.

Before: SELECT ... WHERE LLM_FILTER('a', t) UNION ALL SELECT ... WHERE LLM_FILTER('b', t) LIMIT 10
After:  (SELECT ... LIMIT 10) UNION ALL (SELECT ... LIMIT 10) LIMIT 10
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.early_stop import row_limit
from quackllm.optimizer.sql import has_calls

OWN_ROWS = ("limit", "offset", "order", "with_", "sample")
"""Clauses of an operand beside which no LIMIT is put."""


def limit_in_union(plan: Plan, catalog: Catalog) -> Plan:
    """Copy LIMIT, and OFFSET added to it, into operands that call a model."""
    if not plan.holds(exp.Union):
        return plan
    root = plan.root.copy()
    changed = False
    for union in list(root.find_all(exp.Union)):
        rows = row_limit(union, catalog)
        if rows is not None and not union.args.get("order"):
            for operand in _operands(union):
                changed |= _limit(operand, rows)
    return replace(plan, root=root) if changed else plan


def _operands(union: exp.Union) -> list[exp.Select]:
    """The SELECTs whose rows, all of them, make a UNION ALL."""
    if union.args.get("distinct"):
        return []
    found: list[exp.Select] = []
    for side in (union.this, union.expression):
        while isinstance(side, exp.Subquery) and not _cuts(side):
            side = side.this
        if isinstance(side, exp.Select):
            found.append(side)
        elif isinstance(side, exp.Union) and not _cuts(side):
            found.extend(_operands(side))
    return found


def _cuts(query: exp.Expr) -> bool:
    return any(query.args.get(name) for name in OWN_ROWS)


def _limit(operand: exp.Select, rows: int) -> bool:
    if _cuts(operand) or not has_calls(operand):
        return False
    limited = operand.copy()
    limited.set("limit", exp.Limit(expression=exp.Literal.number(rows)))
    bare = not isinstance(operand.parent, exp.Subquery)
    operand.replace(exp.Subquery(this=limited) if bare else limited)
    return True
