"""A call is asked only for rows whose result it can decide.

Under AND, OR, CASE, COALESCE and FILTER an earlier operand can settle the value; the
later ones are then asked only for the rows that it leaves open. In a condition that only has
to tell TRUE from the rest, a NULL settles as much as a FALSE. A comparison or a sum with
NULL is NULL, whatever is on its other side.

Before: SELECT CASE WHEN stars > 3 THEN 'good' ELSE LLM_CLASSIFY(t, [...]) END, all rows asked
After:  rows where (stars > 3) IS NOT TRUE asked
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.guards import add_guards, path_to
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import has_grouping_sets, is_aggregate
from quackllm.optimizer.sources import STRICT
from quackllm.optimizer.sql import bare, conjuncts

TESTS = ("where", "having", "qualify")
"""Clauses that keep a row where their condition is TRUE."""


def short_circuit(plan: Plan, catalog: Catalog) -> Plan:
    """Guard calls by the operands that are decided before them."""
    return add_guards(plan, catalog, partial(_conditions, catalog))


def _conditions(
    catalog: Catalog, select: exp.Select, clause: str, path: list[exp.Expr]
) -> list[exp.Expr]:
    """`path` runs from the clause down to the answer's column.

    Under grouping sets a row counts for several groups, some of whose keys are NULL: what is
    known of the keys around an aggregate says nothing of its rows.
    """
    sets = has_grouping_sets(select)
    conditions: list[exp.Expr] = []
    where = select.args.get("where")
    top = conjuncts(where.this) if clause == "where" and where is not None else []
    inside = not top
    is_test = clause in TESTS
    for parent, child in pairwise(path):
        window = isinstance(parent, exp.Window)  # its other rows see the answer for this one
        if window or (sets and _aggregates(parent, catalog)):
            conditions.clear()
        inside = inside or any(parent is part for part in top)
        if inside:
            conditions.extend(_under(parent, child, is_test))
        is_test = _tests(parent, child, is_test)
    return conditions


def _aggregates(node: exp.Expr, catalog: Catalog) -> bool:
    """Whether a node is an aggregate, or one with its FILTER, whose condition is about rows."""
    return isinstance(node, exp.Filter) or (
        is_aggregate(node, catalog) and not isinstance(node.parent, exp.Filter)
    )


def decided_inside(test: exp.Expr, call: exp.Expr) -> list[exp.Expr]:
    """Conditions under which a call can still decide whether a condition is TRUE."""
    conditions: list[exp.Expr] = []
    is_test = True
    for parent, child in pairwise(path_to(test, call)):
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
    if isinstance(parent, exp.Between):
        return _under_between(parent, child, is_test)
    if isinstance(parent, exp.Case):
        return _under_case(parent, child)
    if isinstance(parent, exp.If) and isinstance(parent.parent, exp.Case):
        return [_tested(parent.parent, parent)] if child is not parent.this else []
    if isinstance(parent, exp.Filter) and child is parent.this:
        return [_whole(parent.expression.this)]
    if isinstance(parent, exp.Anonymous):
        return _under_function(parent, child)
    if isinstance(parent, STRICT) and isinstance(parent, exp.Binary):
        return _not_null(
            [operand for operand in (parent.this, parent.expression) if operand is not child]
        )
    if isinstance(parent, exp.DPipe):  # of lists it is not strict
        return _not_null([part for part in (parent.this, parent.expression) if _is_null_text(part)])
    if isinstance(parent, exp.In) and child is not parent.this:
        return _not_null([parent.this])
    return []


def _under_between(between: exp.Between, child: exp.Expr, is_test: bool) -> list[exp.Expr]:
    """x BETWEEN low AND high is x >= low AND x <= high."""
    value, low, high = between.this, between.args["low"], between.args["high"]
    if child is high:
        passes = exp.GTE(this=_whole(value), expression=_whole(low))
        return [*_not_null([value]), _may_pass(passes, is_test)]
    if child is low:
        return _not_null([value])
    # Without either bound it may still be FALSE by the other one, unless that counts as NULL.
    return _not_null([low, high]) if is_test else []


def _not_null(operands: list[exp.Expr]) -> list[exp.Expr]:
    """Write that operands have values; nothing of those that surely have, and of queries."""
    return [
        exp.Not(this=exp.Is(this=_whole(operand), expression=exp.null()))
        for operand in operands
        if operand.find(exp.Column, exp.Null) is not None and operand.find(exp.Query) is None
    ]


def _is_null_text(operand: exp.Expr) -> bool:
    node = bare(operand)
    return (
        isinstance(node, exp.Cast)
        and isinstance(node.this, exp.Null)
        and node.to.is_type(exp.DataType.Type.TEXT, exp.DataType.Type.VARCHAR)
    )


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
    if name == "array_cosine_similarity":  # as LLM_SIMILARITY is written out
        return _not_null([argument for argument in arguments if argument is not child])
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
