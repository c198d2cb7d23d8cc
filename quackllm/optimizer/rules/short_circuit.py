"""A call is asked only for rows whose result it can decide.

Under AND, OR, CASE, COALESCE and FILTER an earlier operand can settle the value; the
later ones are then asked only for the rows that it leaves open. In a condition that only has
to tell TRUE from the rest, a NULL settles as much as a FALSE.

Before: SELECT CASE WHEN stars > 3 THEN 'good' ELSE LLM_CLASSIFY(t, [...]) END, all rows asked
After:  rows where (stars > 3) IS NOT TRUE asked
"""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import add_guards
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.sql import bare, conjuncts

TESTS = ("where", "having", "qualify")
"""Clauses that keep a row where their condition is TRUE."""


def short_circuit(plan: Plan, catalog: Catalog) -> Plan:
    """Guard calls by the operands that are decided before them."""
    return add_guards(plan, catalog, _conditions)


def _conditions(select: exp.Select, clause: str, path: list[exp.Expr]) -> list[exp.Expr]:
    """`path` runs from the clause down to the answer's column."""
    conditions: list[exp.Expr] = []
    where = select.args.get("where")
    top = conjuncts(where.this) if clause == "where" and where is not None else []
    inside = not top
    is_test = clause in TESTS
    for parent, child in pairwise(path):
        if isinstance(parent, exp.Window):  # its other rows see the answer for this one
            conditions.clear()
        inside = inside or any(parent is part for part in top)
        if inside:
            conditions.extend(_under(parent, child, is_test))
        is_test = _tests(parent, child, is_test)
    return conditions


def _tests(parent: exp.Expr, child: exp.Expr, is_test: bool) -> bool:
    """Whether all that counts of an operand is whether it is TRUE, the parent given."""
    if isinstance(parent, exp.Where | exp.Having | exp.Qualify | exp.Paren | exp.And | exp.Or):
        return is_test
    if isinstance(parent, exp.Filter):
        return child is parent.expression
    if isinstance(parent, exp.If) and isinstance(parent.parent, exp.Case):
        return child is parent.this and parent.parent.this is None
    if isinstance(parent, exp.Anonymous) and parent.name.lower() == "if":
        return child is parent.expressions[0]
    return False


def _under(parent: exp.Expr, child: exp.Expr, is_test: bool) -> list[exp.Expr]:
    if isinstance(parent, exp.Or) and child is parent.expression:
        return [_is_not(parent.this, exp.true())]
    if isinstance(parent, exp.And) and child is parent.expression:
        return [_may_pass(parent.this, is_test)]
    if isinstance(parent, exp.Between) and child is parent.args["high"]:
        low = exp.GTE(this=_whole(parent.this), expression=_whole(parent.args["low"]))
        return [_may_pass(low, is_test)]
    if isinstance(parent, exp.Case):
        return _under_case(parent, child)
    if isinstance(parent, exp.If) and isinstance(parent.parent, exp.Case):
        return [_tested(parent.parent, parent)] if child is not parent.this else []
    if isinstance(parent, exp.Filter) and child is parent.this:
        return [_whole(parent.expression.this)]
    if isinstance(parent, exp.Anonymous):
        return _under_function(parent, child)
    return []


def _may_pass(operand: exp.Expr, is_test: bool) -> exp.Expr:
    """Write that an operand of AND leaves the other one something to decide."""
    return _whole(operand) if is_test else _is_not(operand, exp.false())


def _under_case(case: exp.Case, child: exp.Expr) -> list[exp.Expr]:
    conditions: list[exp.Expr] = []
    for branch in case.args.get("ifs", []):
        if branch is child:
            return conditions
        conditions.append(_is_not(_tested(case, branch), exp.true()))
    return conditions if child is case.args.get("default") else []


def _tested(case: exp.Case, branch: exp.If) -> exp.Expr:
    """The condition of a branch, of CASE WHEN and of CASE x WHEN alike."""
    if case.this is None:
        return _whole(branch.this)
    return exp.paren(exp.EQ(this=_whole(case.this), expression=_whole(branch.this)), copy=False)


def _under_function(function: exp.Anonymous, child: exp.Expr) -> list[exp.Expr]:
    name, arguments = function.name.lower(), function.expressions
    if name in ("coalesce", "ifnull"):
        return _before(arguments, child)
    if name == "if" and len(arguments) == 3 and child is not arguments[0]:
        condition = arguments[0]
        return [_whole(condition) if child is arguments[1] else _is_not(condition, exp.true())]
    return []


def _before(operands: list[exp.Expr], child: exp.Expr) -> list[exp.Expr]:
    conditions: list[exp.Expr] = []
    for operand in operands:
        if operand is child:
            return conditions
        conditions.append(exp.Is(this=_whole(operand), expression=exp.null()))
    return []


def _is_not(condition: exp.Expr, value: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=_whole(condition), expression=value))


def _whole(node: exp.Expr) -> exp.Expr:
    inner = bare(node)
    simple = isinstance(inner, exp.Column | exp.Literal | exp.Anonymous)
    return inner.copy() if simple else exp.paren(inner.copy(), copy=False)
