"""IN whose subquery reads the row around it is EXISTS where only TRUE counts.

As a condition of WHERE, NULL and FALSE are the same, so that a row that finds its value needs
no other: pairs of other values are not asked, and `first_partner` stops at the first match.
NOT IN is TRUE where no value is equal and none leaves that open. Likewise `= ANY` and `<> ALL`.
In other places, such as the select list, a second EXISTS tells NULL from FALSE.
Kim, "On Optimizing an SQL-like Nested Query" (TODS 1982).

Before: FROM a WHERE a.g IN (SELECT b.g FROM b WHERE LLM_FILTER('...', a.x, b.y)), all pairs asked
After:  FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.g = b.g AND LLM_FILTER('...', a.x, b.y))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.keys import comparable
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import after_grouping, clause_parts, in_scope, rows_of, selects
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import bare, conjunction, conjuncts, has_calls, own_nodes

TESTS = (exp.In, exp.EQ, exp.NEQ)
"""What tests whether a value is among others, given the right operand."""

CLAUSES = ("group", "having", "qualify", "windows", "limit", "offset", "sample", "with_")
"""Clauses of the subquery beside which it is left as it is."""


def exists_for_in(plan: Plan, catalog: Catalog) -> Plan:
    """Write EXISTS for IN whose subquery calls a model about the row around it."""
    if not plan.has_nested_calls or not plan.holds(exp.In, exp.Any, exp.All):
        return plan
    root = plan.root.copy()
    changed = False
    for select in selects(root):
        where = select.args.get("where")
        for part in conjuncts(where.this if where else None):
            found = _tied(part, select, catalog)
            if found is not None:
                part.replace(_condition(found))
                changed = True
        changed |= _write_values(select, catalog)
    return replace(plan, root=root) if changed else plan


@dataclass(frozen=True)
class _Tied:
    """A test whether a value is among those of a query, and what a row of it has to fulfil.

    equality: that its value is the one that is looked for.
    """

    query: exp.Select
    equality: exp.EQ
    negated: bool


def _write_values(select: exp.Select, catalog: Catalog) -> bool:
    """Write the tests of which not only counts whether they are TRUE, in place."""
    parts = [part for clause, part in clause_parts(select) if clause in ("where", "expressions")]
    tests = [node for part in parts for node in own_nodes(part) if isinstance(node, TESTS)]
    found = [(test, _tied(test, select, catalog)) for test in tests]
    tied = [(test, one) for test, one in found if one is not None]
    columns = catalog.columns(in_scope(select, select.copy())) if tied else None
    if not tied or is_grouped(select, catalog) or not _name_items(select, columns):
        return False
    for test, one in tied:
        test.replace(_condition(one) if _only_truth_counts(test, one) else _value(one))
    return True


def _only_truth_counts(test: exp.Expr, tied: _Tied) -> bool:
    """Whether a test stands in WHERE so that NULL and FALSE are the same of it."""
    node = test.parent
    while isinstance(node, exp.And | exp.Or | exp.Paren):
        node = node.parent
    return isinstance(node, exp.Where) and not tied.negated


def _name_items(select: exp.Select, columns: Sequence[tuple[str, str]] | None) -> bool:
    """Give the items of a select list the names that they have, in place; tell whether it can."""
    items = select.expressions
    if columns is None or len(columns) != len(items) or any(map(is_star, items)):
        return False
    for item, (name, _) in zip(list(items), columns, strict=True):
        if not item.alias and item.find(exp.Query) is not None:
            alias = exp.to_identifier(name, quoted=True)
            item.replace(exp.Alias(this=item.copy(), alias=alias))
    return True


def _tied(part: exp.Expr, select: exp.Select, catalog: Catalog) -> _Tied | None:
    """Read a test; None where it is another one, or cannot be written as EXISTS."""
    found = _membership(part)
    if found is None:
        return None
    value, inner, negated = found
    item = _item(inner, catalog)
    if item is None or has_calls(value):
        return None
    outside, inside = Sources(select, catalog), Sources(inner, catalog)
    outer = outside.qualified(value, len(outside.trees))
    own = inside.qualified(item, len(inside.trees))
    if outer is None or own is None or not all(map(inside.lacks, outer.find_all(exp.Column))):
        return None
    if any(catalog.is_volatile(node.name) for node in outer.find_all(exp.Anonymous)):
        return None
    left = in_scope(select, rows_of(select, [outer.copy()]))
    right = in_scope(inner, rows_of(inner, [own.copy()]))
    if not comparable(left, right, catalog):
        return None
    if catalog.columns(in_scope(inner, inner.copy())) is not None:  # it is asked once for all rows
        return None
    return _Tied(inner, exp.EQ(this=outer, expression=own), negated)


def _condition(tied: _Tied) -> exp.Expr:
    """Write a test of which only counts whether it is TRUE."""
    if not tied.negated:
        return _exists(tied.query, tied.equality)
    # A NULL among the values leaves it open whether one is equal.
    may_be = exp.Not(this=exp.Is(this=exp.paren(tied.equality), expression=exp.false()))
    return exp.Not(this=_exists(tied.query, may_be))


def _value(tied: _Tied) -> exp.Expr:
    """Write a test: TRUE where a value is equal, else NULL where that is open of one."""
    is_open = exp.Is(this=exp.paren(tied.equality), expression=exp.null())
    branches = [(tied.equality, exp.true()), (is_open, exp.null())]
    tested = exp.Case(
        ifs=[exp.If(this=_exists(tied.query, tie), true=value) for tie, value in branches],
        default=exp.false(),
    )
    return exp.Not(this=exp.paren(tested)) if tied.negated else exp.paren(tested)


def _exists(inner: exp.Select, tie: exp.Expr) -> exp.Exists:
    query = inner.copy()
    where = query.args.get("where")
    query.set("distinct", None)
    query.set("order", None)
    query.set("expressions", [exp.Literal.number(1)])
    whole = conjunction([tie.copy(), *([where.this] if where else [])])
    query.set("where", exp.Where(this=whole))
    return exp.Exists(this=query)


def _membership(part: exp.Expr) -> tuple[exp.Expr, exp.Select, bool] | None:
    """The value, the query and the negation of a test whether a value is among others."""
    node, negated = bare(part), False
    while isinstance(node, exp.Not):
        node, negated = bare(node.this), not negated
    query: exp.Expr | None = None
    if isinstance(node, exp.In):
        query = node.args.get("query")
    elif isinstance(node, exp.EQ) and isinstance(node.expression, exp.Any):
        query = node.expression.this
    elif isinstance(node, exp.NEQ) and isinstance(node.expression, exp.All):
        query, negated = node.expression.this, not negated
    inner = query.unnest() if isinstance(query, exp.Subquery) else query
    if not isinstance(inner, exp.Select) or not has_calls(inner):
        return None
    return node.this, inner, negated


def _item(inner: exp.Select, catalog: Catalog) -> exp.Expr | None:
    """What a plain query selects, where that is one value for each of its rows."""
    if any(inner.args.get(name) for name in CLAUSES) or is_grouped(inner, catalog):
        return None
    distinct = inner.args.get("distinct")
    if len(inner.expressions) != 1 or (distinct is not None and distinct.args.get("on")):
        return None
    item: exp.Expr = inner.expressions[0].unalias()
    several = after_grouping(item, catalog) or item.find(exp.Explode, exp.Anonymous)
    return None if is_star(item) or has_calls(item) or several else item
