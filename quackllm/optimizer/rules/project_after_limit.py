"""A call in the select list is asked only for the rows that LIMIT leaves.

Carey and Kossmann, "Reducing the Braking Distance of an SQL Query Engine" (VLDB 1998): the
sooner the rows are few, the less is done for those that are thrown away.

Before: SELECT title, LLM('...', body) FROM x ORDER BY year LIMIT 20, all rows asked
After:  kept := SELECT title, body, year FROM x ORDER BY year LIMIT 20;
        SELECT title, LLM('...', body) FROM kept ORDER BY year

A call that ORDER BY sorts by is asked before LIMIT, the others after it.
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import MATERIALIZE, Plan
from quackllm.optimizer.split import Leaf, Split, names_where_cuttable, order_keys, split_each
from quackllm.optimizer.sql import has_calls, own_calls

BLOCKING = ("group", "having", "qualify", "distinct", "windows")
"""Clauses under which the select list decides which rows there are."""


def project_after_limit(plan: Plan, catalog: Catalog) -> Plan:
    """Split a SELECT with LIMIT into the rows it leaves and a projection of them."""
    return split_each(
        plan, _limits_calls, lambda select, n: _split(select, f"limited {n}", catalog)
    )


def _limits_calls(select: exp.Select) -> bool:
    limited = select.args.get("limit") or select.args.get("offset")
    return bool(limited) and any(own_calls(item) for item in select.expressions)


def _split(select: exp.Select, kept: str, catalog: Catalog) -> exp.Select | None:
    if any(select.args.get(name) for name in BLOCKING):
        return None
    if is_grouped(select, catalog):  # LIMIT then counts groups, and there may be no GROUP BY
        return None
    ordered = order_keys(select, calls=True)
    if ordered is None or select.args.get("sample"):
        return None
    sorting = [key.this for key in ordered if has_calls(key)]
    in_items = [call for item in select.expressions for call in own_calls(item)]
    after = [call for call in in_items if not any(call in own_calls(key) for key in sorting)]
    if not after or any(key.find(exp.Query) for key in sorting):
        return None
    if any(has_calls(part) for call in in_items for part in call.find_all(exp.Query)):
        return None
    names = names_where_cuttable(select, catalog)
    if names is None:
        return None
    split = Split("__llm_rows")
    items = split.items(select, names, catalog, _leaf(sorting))
    if items is None:
        return None
    outer = exp.Select(expressions=items)
    keys = [split.carry(key.this) for key in ordered]
    inner = split.inner(select)
    # Over FROM: the names and places of the select list are not those of inner's.
    by = [key.copy() for key in ordered]
    inner.set("order", exp.Order(expressions=by) if by else None)
    if inner.args.get("with_") is not None:
        outer.set("with_", inner.args["with_"].pop())
    inner.meta[MATERIALIZE] = kept
    outer = outer.from_(split.derived(inner))
    if ordered:
        again = [key.copy() for key in ordered]
        for key, place in zip(again, keys, strict=True):
            key.set("this", place)
        outer.set("order", exp.Order(expressions=again))
    return outer


def _leaf(sorting: list[exp.Expr]) -> Leaf:
    """What the inner query carries: columns, windows, and what ORDER BY calls a model for."""

    def leaf(node: exp.Expr) -> bool:
        return isinstance(node, exp.Column | exp.Window) or node in sorting

    return leaf
