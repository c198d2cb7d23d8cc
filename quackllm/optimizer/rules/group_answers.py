"""Answers that ROLLUP, CUBE and GROUPING SETS group by are columns of a derived table.

DuckDB knows a key by its text and makes it NULL for some rows. A call in a key is asked
before, so that the key is a plain column. So is a key of any GROUP BY that holds a query with
calls: that query and its copy in the select list would no longer be the same text.

Before: SELECT LLM_CLASSIFY(t, ['a', 'b']) AS c, count(*) FROM x GROUP BY ROLLUP (c)
After:  SELECT c1 AS c, count(*) FROM (SELECT LLM_CLASSIFY(t, ['a', 'b']) FROM x) AS q(c1)
        GROUP BY ROLLUP (c1)
"""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_row_call
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import (
    calls_of,
    clause_parts,
    has_grouping_sets,
    in_scope,
    is_aggregate,
    rows_of,
)
from quackllm.optimizer.split import Leaf, Split, is_star, names_where_cuttable, split_each
from quackllm.optimizer.sql import ModelCall, bare, has_calls, held, released

LATER = ("having", "order")
"""Clauses that are evaluated after grouping, apart from the select list."""

BLOCKING = ("qualify", "windows", "sample", "laterals")

SETS = (exp.Group, exp.Rollup, exp.Cube, exp.GroupingSets, exp.Tuple)
"""What the keys of a GROUP BY stand in."""


def group_answers(plan: Plan, catalog: Catalog) -> Plan:
    """Split SELECTs whose grouping sets have calls in their keys, or whose keys have queries."""
    return split_each(plan, _concerns, lambda select, _: _split(select, catalog))


def _concerns(select: exp.Select) -> bool:
    group = select.args.get("group")
    if group is None:
        return False
    if has_grouping_sets(select):
        return has_calls(group) or _by_name(select)
    return any(map(has_calls, group.find_all(exp.Query))) or _is_repeated(select)


def _is_repeated(select: exp.Select) -> bool:
    """Whether a key names an item with such a query that a later clause holds as well."""
    later = [part for name in LATER if (part := select.args.get(name)) is not None]
    named = {key.name.lower() for key in select.args["group"].expressions if key.name}
    return any(
        any(map(has_calls, item.find_all(exp.Query)))
        and any(node == item.this for part in later for node in part.walk())
        for item in select.expressions
        if item.alias and item.alias.lower() in named
    )


def _by_name(select: exp.Select) -> bool:
    """Whether a key names an item that calls a model, by its alias or its position."""
    keys = select.args["group"].find_all(exp.Column, exp.Literal)
    return any(has_calls(_item_named(key, select)) for key in keys)


def _item_named(key: exp.Expr, select: exp.Select) -> exp.Expr | None:
    """The item of the select list that a key of GROUP BY names; None of any other expression.

    None of an item that is a number, which would be a position where it stands as a key.
    """
    items = [item.unalias() for item in select.expressions]
    found: exp.Expr | None = None
    if _is_position(key) and 0 < int(key.name) <= len(items):
        found = items[int(key.name) - 1]
    elif isinstance(key, exp.Column) and not key.table:
        aliases = {item.alias.lower(): item.this for item in select.expressions if item.alias}
        found = aliases.get(key.name.lower())
    return None if found is None or isinstance(bare(found), exp.Literal) else found


def _is_position(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.is_int and isinstance(node.parent, SETS)


def _split(select: exp.Select, catalog: Catalog) -> exp.Select | None:
    clauses = [select.args.get(name) for name in LATER]
    parts = [*select.expressions, select.args["group"], *(part for part in clauses if part)]
    if any(select.args.get(name) for name in BLOCKING):
        return None
    if any(is_star(item.unalias()) for item in select.expressions):
        return None
    if any(part.find(exp.Window) for part in parts):
        return None
    names = names_where_cuttable(select, catalog)
    rows = catalog.columns(in_scope(select, rows_of(select, [exp.Star()])))
    if names is None or rows is None:
        return None
    columns = {name.lower() for name, _ in rows}
    resolved = _resolved(select.args["group"], select, columns)
    if resolved is None or not _are_keys(select, resolved, catalog):
        return None
    split = Split("__llm_grouped")
    leaf = _leaf(resolved, catalog)
    outer = select.copy()
    outer.set(
        "expressions",
        [
            exp.Alias(
                this=split.rewrite(item.unalias(), leaf),
                alias=exp.to_identifier(name, quoted=True),
            )
            for item, name in zip(select.expressions, names, strict=True)
        ],
    )
    aliases = {item.alias.lower() for item in select.expressions if item.alias}
    # Keys that name an item go on doing so: what names it once more is another key to DuckDB.
    by_name = _leaf_but(leaf, aliases - columns)
    outer.set("group", split.rewrite(select.args["group"], by_name))
    for name in LATER:
        if select.args.get(name) is not None:
            rewritten = split.rewrite(select.args[name], _leaf_but(leaf, aliases))
            outer.set(name, rewritten)
    inner = rows_of(select, [])
    inner.set("where", select.args["where"].copy() if select.args.get("where") else None)
    inner = split.inner(inner)
    for name in ("joins", "where"):
        outer.set(name, None)
    if any(part.find(exp.Query) for _, part in clause_parts(outer)):
        return None
    return outer.from_(split.derived(inner), copy=False)


def _leaf(group: exp.Group, catalog: Catalog) -> Leaf:
    """What rows are made of: columns, and whole keys and arguments of aggregates with calls.

    They are carried whole so that CASE or AND inside them still decide what is asked; without
    the parentheses around a key, which would make another column of it.
    """
    keys = [
        bare(node)
        for node in group.walk()
        if isinstance(node.parent, SETS) and not isinstance(node, SETS) and has_calls(node)
    ]

    def leaf(node: exp.Expr) -> bool:
        if isinstance(node, exp.Column | ModelCall) or node in keys:
            return True
        above = node.parent
        is_argument = above is not None and is_aggregate(above, catalog)
        return is_argument and has_calls(node) and not isinstance(node, exp.Order | exp.Distinct)

    return leaf


def _leaf_but(leaf: Leaf, aliases: set[str]) -> Leaf:
    """A leaf, but for names of items, which are columns of the result."""

    def leaf_but(node: exp.Expr) -> bool:
        by_alias = isinstance(node, exp.Column) and not node.table and node.name.lower() in aliases
        return leaf(node) and not by_alias

    return leaf_but


def _resolved(group: exp.Group, select: exp.Select, columns: Collection[str]) -> exp.Group | None:
    """GROUP BY with the items that its keys name written out, but for names of columns."""
    holder = held(group.copy())
    for node in list(holder.find_all(exp.Column, exp.Literal)):
        value = _item_named(node, select)
        if value is not None and (_is_position(node) or node.name.lower() not in columns):
            node.replace(value.copy())
    resolved = released(holder)
    return resolved if isinstance(resolved, exp.Group) else None


def _are_keys(select: exp.Select, group: exp.Group, catalog: Catalog) -> bool:
    """Whether every call is a key, a part of one, or made per row."""
    keys = [node for node in group.walk() if isinstance(node, exp.Expr)]
    for call in calls_of(select):
        if is_row_call(call, select, catalog):
            continue
        node: exp.Expr | None = call
        while node is not None and node is not select and node not in keys:
            node = node.parent
        if node is None or node is select:
            return False
    return has_calls(group)
