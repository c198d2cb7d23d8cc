"""A call is asked only for rows whose result it can decide.

Under AND, OR, CASE, COALESCE and FILTER an earlier operand can settle the value; the
later ones are then asked only for the rows that it leaves open.

Before: SELECT CASE WHEN stars > 3 THEN 'good' ELSE LLM_CLASSIFY(t, [...]) END, all rows asked
After:  rows where (stars > 3) IS NOT TRUE asked
"""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import add_guards
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.sql import conjuncts


def short_circuit(plan: Plan, catalog: Catalog) -> Plan:
    """Guard calls by the operands that are decided before them."""
    return add_guards(plan, catalog, _conditions)


def _conditions(
    select: exp.Select, clause: str, path: list[exp.Expression]
) -> list[exp.Expression]:
    """`path` runs from the clause down to the answer's column."""
    conditions: list[exp.Expression] = []
    where = select.args.get("where")
    top = conjuncts(where.this) if clause == "where" and where is not None else []
    inside = not top
    for parent, child in pairwise(path):
        inside = inside or any(parent is part for part in top)
        if inside:
            conditions.extend(_under(parent, child))
    return conditions


def _under(parent: exp.Expression, child: exp.Expression) -> list[exp.Expression]:
    if isinstance(parent, exp.Or) and child is parent.expression:
        return [_is_not(parent.this, exp.true())]
    if isinstance(parent, exp.And) and child is parent.expression:
        return [_is_not(parent.this, exp.false())]
    if isinstance(parent, exp.Case):
        return _under_case(parent, child)
    if isinstance(parent, exp.If) and isinstance(parent.parent, exp.Case):
        return [_whole(parent.this)] if child is not parent.this and not _operand(parent) else []
    if isinstance(parent, exp.Filter) and child is parent.this:
        return [_whole(parent.expression.this)]
    if isinstance(parent, exp.Anonymous) and parent.name.lower() in ("coalesce", "ifnull"):
        return _before(parent.expressions, child)
    if isinstance(parent, exp.Coalesce):
        return _before([parent.this, *parent.expressions], child)
    return []


def _under_case(case: exp.Case, child: exp.Expression) -> list[exp.Expression]:
    if case.this is not None:  # CASE x WHEN y: left to be asked in full
        return []
    conditions = []
    for branch in case.args.get("ifs", []):
        if branch is child:
            return conditions
        conditions.append(_is_not(branch.this, exp.true()))
    return conditions


def _operand(branch: exp.If) -> bool:
    return branch.parent is not None and branch.parent.this is not None


def _before(operands: list[exp.Expression], child: exp.Expression) -> list[exp.Expression]:
    conditions: list[exp.Expression] = []
    for operand in operands:
        if operand is child:
            return conditions
        conditions.append(exp.Is(this=_whole(operand), expression=exp.null()))
    return []


def _is_not(condition: exp.Expression, value: exp.Expression) -> exp.Expression:
    return exp.Not(this=exp.paren(exp.Is(this=_whole(condition), expression=value), copy=False))


def _whole(node: exp.Expression) -> exp.Expression:
    return exp.paren(node.copy(), copy=False)
