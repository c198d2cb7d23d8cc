"""Predicates that DuckDB decides come before predicates that call a model.

A row that a comparison rejects costs nothing; one that a model rejects costs a call.
Hellerstein and Stonebraker, "Predicate Migration" (SIGMOD 1993), for the extreme
where one kind of predicate is free. The operands of every AND and OR are sorted so, in
any clause: what DuckDB accepts under OR needs no call either.

Before: WHERE LLM_FILTER('...', body) AND (LLM_FILTER('...', title) OR year > 2015) AND stars > 3
After:  WHERE stars > 3 AND LLM_FILTER('...', body) AND (year > 2015 OR LLM_FILTER('...', title))
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.sql import ModelCall, find_all, has_calls, held, released


def relational_first(plan: Plan, catalog: Catalog) -> Plan:
    """Put the operands without calls first, otherwise in the order written."""
    if not any(map(_is_mixed, find_all(plan.root, exp.And, exp.Or))):
        return plan
    holder = held(plan.root.copy())
    for node in list(find_all(holder, exp.And, exp.Or)):
        if _is_mixed(node):
            ordered = sorted(_operands(node, type(node)), key=has_calls)
            node.replace(_chain(ordered, type(node)))
    return replace(plan, root=released(holder))


def _is_mixed(node: exp.Expr) -> bool:
    """Whether a node is a whole chain in which a call stands before a free operand."""
    if type(node.parent) is type(node) or node.find(ModelCall) is None:
        return False  # part of a longer chain, or nothing to move
    calling = [has_calls(part) for part in _operands(node, type(node))]
    return calling != sorted(calling)


def _operands(node: exp.Expr, kind: type[exp.Expr]) -> list[exp.Expr]:
    """The operands of a chain of one operator, as they are written."""
    if type(node) is not kind:
        return [node]
    return [*_operands(node.args["this"], kind), *_operands(node.args["expression"], kind)]


def _chain(parts: list[exp.Expr], kind: type[exp.Expr]) -> exp.Expr:
    chain = parts[0]
    for part in parts[1:]:
        chain = kind(this=chain, expression=part)
    return chain
