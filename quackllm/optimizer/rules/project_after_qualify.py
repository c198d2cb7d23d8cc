"""Calls about a row are asked only for the rows that QUALIFY leaves.

The newest row of each key, and a question about it, is the common form. What QUALIFY itself
asks about a row is asked after its other conditions. The rows are kept, since windows may
break ties otherwise when they are evaluated again.

Before: SELECT film, LLM('...', body) FROM reviews
        QUALIFY row_number() OVER (PARTITION BY film ORDER BY day DESC) = 1, all rows asked
After:  kept := SELECT film, body FROM reviews QUALIFY row_number() OVER (...) = 1;
        SELECT film, LLM('...', body) FROM kept

A call about a window function, such as LLM('...', body, lag(body) OVER (...)), is cut off likewise,
with QUALIFY or without it.
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import MATERIALIZE, Plan
from quackllm.optimizer.scope import in_scope
from quackllm.optimizer.split import (
    Split,
    is_carried,
    is_columns,
    names_where_cuttable,
    order_keys,
    split_each,
)
from quackllm.optimizer.sql import (
    conjunction,
    conjuncts,
    has_calls,
    own_calls,
)

BLOCKING = ("group", "having", "distinct", "sample")
"""Clauses under which the select list does more than to show each row."""

AFTER = ("order", "limit", "offset")
"""Clauses that apply to the rows that QUALIFY leaves."""


def project_after_qualify(plan: Plan, catalog: Catalog) -> Plan:
    """Split a SELECT with QUALIFY into the rows that it leaves and a projection of them."""
    return split_each(
        plan, _calls_after, lambda select, n: _split(select, f"qualified {n}", catalog)
    )


def _calls_after(select: exp.Select) -> bool:
    """Whether a block with QUALIFY calls a model in its select list, or in a condition of
    QUALIFY, and not in what a window sees; or one without it about a window."""
    parts = [*_cut_items(select), *_conditions(select)]
    if not select.args.get("qualify"):
        return any(call.find(exp.Window) for part in parts for call in own_calls(part))
    return any(map(_calls_outside_windows, parts))


def _cut_items(select: exp.Select) -> list[exp.Expr]:
    """The items that are computed after QUALIFY; one with a query beside a call stays before."""
    return [item for item in select.expressions if has_calls(item) and not item.find(exp.Query)]


def _conditions(select: exp.Select) -> list[exp.Expr]:
    qualify = select.args.get("qualify")
    return [] if qualify is None else conjuncts(qualify.this)


def _calls_outside_windows(part: exp.Expr) -> bool:
    return any(
        not isinstance(call.find_ancestor(exp.Window, exp.Select), exp.Window)
        for call in own_calls(part)
    )


def _split(select: exp.Select, kept: str, catalog: Catalog) -> exp.Select | None:
    if any(select.args.get(name) for name in BLOCKING):
        return None
    if is_grouped(select, catalog):
        return None
    after = [part for part in _conditions(select) if _calls_outside_windows(part)]
    calling = [part for part in [*select.expressions, *_conditions(select)] if has_calls(part)]
    if any(part.find(exp.Query) for part in after):
        return None
    if any(is_columns(node) for part in calling for node in part.walk()):
        return None
    keys, names = order_keys(select, calls=True), names_where_cuttable(select, catalog)
    if keys is None or names is None or any(key.find(exp.Query) for key in keys):
        return None
    split = Split("__llm_qualified")
    items = split.items(select, names, catalog, queries_stay=True)
    if items is None:
        return None
    where = conjunction([split.rewrite(part, is_carried) for part in after])
    for key in keys:
        key.set("this", split.rewrite(key.this, is_carried))
    inner = _rows_left(select, split)
    if catalog.columns(in_scope(select, inner.copy())) is None:
        return None  # a name of QUALIFY is that of a select item
    outer = exp.Select(expressions=items)
    if where is not None:
        outer.set("where", exp.Where(this=where))
    if keys:
        outer.set("order", exp.Order(expressions=keys))
    for name in ("limit", "offset"):
        if select.args.get(name) is not None:
            outer.set(name, select.args[name].copy())
    if inner.args.get("with_") is not None:
        outer.set("with_", inner.args["with_"].pop())
    inner.meta[MATERIALIZE] = kept
    return outer.from_(split.derived(inner))


def _rows_left(select: exp.Select, split: Split) -> exp.Select:
    """Copy a block as far as QUALIFY, of which the calls about rows are left out."""
    inner = split.inner(select)
    for name in AFTER:
        inner.set(name, None)
    stay = [part.copy() for part in _conditions(select) if not _calls_outside_windows(part)]
    left = conjunction(stay)
    inner.set("qualify", None if left is None else exp.Qualify(this=left))
    return inner
