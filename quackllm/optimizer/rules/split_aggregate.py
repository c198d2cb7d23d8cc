"""A call on the result of a GROUP BY is a call on the rows of a derived table.

Before: SELECT dept, LLM_SUMMARIZE(string_agg(note)) FROM x GROUP BY dept
After:  SELECT c0 AS dept, LLM_SUMMARIZE(c1) FROM
        (SELECT dept, string_agg(note) FROM x GROUP BY dept) AS g(c0, c1)
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import group_keys, groups_by_having, is_grouped, is_row_call
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import calls_of, has_grouping_sets, is_aggregate
from quackllm.optimizer.split import Leaf, Split, names_where_cuttable, split_each
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls

BLOCKING = ("qualify", "distinct", "windows", "sample")
MOVED = ("having", "order", "limit", "offset")
"""Clauses that apply after grouping and can move out with the calls."""


def split_aggregate(plan: Plan, catalog: Catalog) -> Plan:
    """Split grouped blocks that call a model on what grouping makes."""
    return split_each(
        plan,
        lambda select: _calls_after_grouping(select, catalog),
        lambda select, _: _split(select, catalog),
    )


def _calls_after_grouping(select: exp.Select, catalog: Catalog) -> bool:
    calls = calls_of(select)
    if not calls or not is_grouped(select, catalog):
        return False
    return not all(is_row_call(call, select, catalog) for call in calls)


def _split(select: exp.Select, catalog: Catalog) -> exp.Select | None:
    if any(select.args.get(name) for name in BLOCKING) or select.find(exp.Window):
        return None
    names = names_where_cuttable(select, catalog)
    group = select.args.get("group")
    keys = group_keys(select, catalog) if group is not None else []
    if names is None or has_grouping_sets(select) or groups_by_having(select, catalog):
        return None
    split = Split("__llm_groups")
    leaf = _leaf(keys, catalog)
    items = split.items(select, names, catalog, leaf)
    after = _clauses_after(select, split, leaf)
    if items is None or after is None:
        return None
    return _assemble(select, split, items, after, keys)


def _leaf(keys: list[exp.Expr], catalog: Catalog) -> Leaf:
    def leaf(node: exp.Expr) -> bool:
        if isinstance(node, exp.Filter) and is_aggregate(node.this, catalog):
            return True
        return node in keys or is_aggregate(node, catalog) or isinstance(node, exp.Column)

    return leaf


def _clauses_after(select: exp.Select, split: Split, leaf: Leaf) -> dict[str, exp.Expr] | None:
    """Rewrite the clauses that apply after grouping over the derived table's columns."""
    aliases = {item.alias.lower() for item in select.expressions if item.alias}
    after: dict[str, exp.Expr] = {}
    having = select.args.get("having")
    calling = [part for part in conjuncts(having.this if having else None) if has_calls(part)]
    if any(part.find(exp.Query) for part in calling):
        return None
    if calling:
        condition = conjunction([split.rewrite(part, leaf) for part in calling])
        after["where"] = exp.Where(this=condition)
    order = select.args.get("order")
    if order is not None:
        ordered = order.copy()
        for key in ordered.expressions:
            node = key.this
            by_position = isinstance(node, exp.Literal)
            by_alias = (
                isinstance(node, exp.Column) and not node.table and node.name.lower() in aliases
            )
            if node.name.lower() == "all" or node.find(exp.Query):
                return None
            if not by_position and not by_alias:
                key.set("this", split.rewrite(node, leaf))
        after["order"] = ordered
    for name in ("limit", "offset"):
        if select.args.get(name) is not None:
            after[name] = select.args[name].copy()
    return after


def as_key(value: exp.Expr) -> exp.Expr:
    """Copy a value for GROUP BY, where a number would be a position."""
    if not isinstance(value, exp.Literal):
        return value.copy()
    return exp.Case(ifs=[exp.If(this=exp.true(), true=value.copy())])


def _assemble(
    select: exp.Select,
    split: Split,
    items: list[exp.Expr],
    after: dict[str, exp.Expr],
    keys: list[exp.Expr],
) -> exp.Select:
    inner = split.inner(select)
    outer = exp.Select(expressions=items)
    for name in MOVED:
        inner.set(name, None)
    having = select.args.get("having")
    stay = [part for part in conjuncts(having.this if having else None) if not has_calls(part)]
    if stay:
        inner.set("having", exp.Having(this=conjunction(stay)))
    if keys:
        inner.set("group", exp.Group(expressions=list(map(as_key, keys))))
    elif select.args.get("group") is not None:
        inner.set("group", None)
    if inner.args.get("with_") is not None:
        outer.set("with_", inner.args["with_"].pop())
    outer = outer.from_(split.derived(inner))
    for name, clause in after.items():
        outer.set(name, clause)
    return outer
