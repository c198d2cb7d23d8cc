"""A call about all rows of a SELECT together is made of rows that are kept.

Such a call stands where a window function may, and is about the rows that a window would see:
those that WHERE, GROUP BY and HAVING leave, before QUALIFY, DISTINCT and LIMIT. They are
computed once, so that no rule behind this one can take a row away from them.

Before: SELECT title FROM x WHERE year > 2000 ORDER BY LLM_RANK('...', body) LIMIT 10
After:  kept := SELECT title, body FROM x WHERE year > 2000;
        SELECT title FROM kept ORDER BY LLM_RANK('...', body) LIMIT 10
"""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import group_keys, groups_by_having, is_grouped
from quackllm.optimizer.naive import is_joint
from quackllm.optimizer.plan import MATERIALIZE, Plan
from quackllm.optimizer.rules.split_aggregate import as_key
from quackllm.optimizer.scope import (
    clause_parts,
    has_grouping_sets,
    in_recursive_cte,
    in_scope,
    is_aggregate,
)
from quackllm.optimizer.split import Leaf, Split, names_where_cuttable, order_keys, split_each
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls, own_calls

SEEN = "__llm_seen"
"""Name of the derived table of the rows that a call is about."""

AFTER = ("qualify", "distinct", "order", "limit", "offset")
"""Clauses that apply to the rows that a window has seen."""


def joint_calls(plan: Plan, catalog: Catalog) -> Plan:
    """Split each SELECT with a joint call into the rows that it is about, and what follows."""
    return split_each(plan, _has_joint, lambda select, n: _split(select, f"seen {n}", catalog))


def _has_joint(select: exp.Select) -> bool:
    return any(is_joint(call) for _, part in clause_parts(select) for call in own_calls(part))


def _split(select: exp.Select, kept: str, catalog: Catalog) -> exp.Select | None:
    if select.args.get("sample") or has_grouping_sets(select) or in_recursive_cte(select):
        return None
    keys = order_keys(select, calls=True)
    names = _names_around(select) or names_where_cuttable(select, catalog)
    if keys is None or names is None or _has_queries_beside_calls(select):
        return None
    if not _has_own_names(select) or groups_by_having(select, catalog):
        return None
    split = Split(SEEN)
    leaf = _leaf(select, catalog)
    items = split.items(select, names, catalog, leaf)
    if items is None:
        return None
    outer = exp.Select(expressions=items)
    _add_what_follows(outer, select, keys, split, leaf)
    inner = _rows_seen(select, split, catalog)
    if catalog.columns(in_scope(select, inner.copy())) is None:
        return None  # such as one that reads columns of a query around it
    if inner.args.get("with_") is not None:
        outer.set("with_", inner.args["with_"].pop())
    outer.meta.update(select.meta)
    inner.meta[MATERIALIZE] = kept
    return outer.from_(split.derived(inner))


def _names_around(select: exp.Select) -> list[str] | None:
    """Names that a derived table made by an earlier rule gives the columns of its query."""
    if not select.meta_get(MATERIALIZE) or not isinstance(select.parent, exp.Subquery):
        return None
    alias = select.parent.args.get("alias")
    return [column.name for column in alias.columns] if alias is not None else None


def _rows_seen(select: exp.Select, split: Split, catalog: Catalog) -> exp.Select:
    """Copy a block as far as windows see it. Keys of GROUP BY may be given by their place."""
    inner = split.inner(select)
    for name in AFTER:
        inner.set(name, None)
    if inner.args.get("group") is not None:
        keys = group_keys(select, catalog)
        group = exp.Group(expressions=list(map(as_key, keys))) if keys else None
        inner.set("group", group)
    return inner


def _has_queries_beside_calls(select: exp.Select) -> bool:
    """Whether a nested query stands in one expression with a call, where both would be cut."""
    clauses = [select.args.get(name) for name in ("qualify", "distinct", "order")]
    parts = [*select.expressions, *(clause for clause in clauses if clause is not None)]
    return any(has_calls(part) and part.find(exp.Query) is not None for part in parts)


def _has_own_names(select: exp.Select) -> bool:
    """Whether DISTINCT ON names no select item, which would be another column then."""
    distinct = select.args.get("distinct")
    aliases = {item.alias.lower() for item in select.expressions if item.alias}
    named = distinct.find_all(exp.Column, exp.Literal) if distinct is not None else ()
    return not any(isinstance(n, exp.Literal) or n.name.lower() in aliases for n in named)


def _leaf(select: exp.Select, catalog: Catalog) -> Leaf:
    """What the kept rows carry: all that a window sees, and what joint calls are asked about."""
    group = select.args.get("group")
    grouped = is_grouped(select, catalog)
    keys = group_keys(select, catalog) if grouped and group is not None else []

    def leaf(node: exp.Expr) -> bool:
        if isinstance(node, exp.Column) or (node.parent is not None and is_joint(node.parent)):
            return True
        if isinstance(node, exp.Window):
            return not is_joint(node.this)
        if isinstance(node, exp.Filter | exp.WithinGroup):
            return is_aggregate(node.this, catalog)
        return grouped and (node in keys or is_aggregate(node, catalog))

    return leaf


def _add_what_follows(
    outer: exp.Select, select: exp.Select, keys: Collection[exp.Ordered], split: Split, leaf: Leaf
) -> None:
    """Write the clauses that apply to the rows seen, over the columns that they are kept in."""
    qualify, distinct = select.args.get("qualify"), select.args.get("distinct")
    if qualify is not None:
        # What all rows are asked for in any case comes before what is asked of those left.
        parts = sorted(conjuncts(qualify.this), key=_is_asked_late)
        condition = conjunction([split.rewrite(part, leaf) for part in parts])
        outer.set("qualify", exp.Qualify(this=condition))
    if distinct is not None:
        outer.set("distinct", split.rewrite(distinct, leaf))
    items = [item.unalias() for item in select.expressions]
    for key in keys:
        place = items.index(key.this) + 1 if distinct is not None and key.this in items else None
        by = split.rewrite(key.this, leaf)
        if isinstance(by, exp.Column):  # by its name alone it could mean a select item
            by.set("table", exp.to_identifier(SEEN))
        key.set("this", exp.Literal.number(place) if place else by)
    if keys:
        outer.set("order", exp.Order(expressions=list(keys)))
    for name in ("limit", "offset"):
        if select.args.get(name) is not None:
            outer.set(name, select.args[name].copy())


def _is_asked_late(part: exp.Expr) -> bool:
    """Whether a condition asks of a row something beside what all of them are asked for."""
    return any(not is_joint(call) for call in own_calls(part))
