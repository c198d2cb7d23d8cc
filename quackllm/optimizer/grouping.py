"""Whether a block forms groups, by what, and which of its calls are made per row."""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.scope import clause_parts, enclosing, in_scope, is_aggregate, rows_of
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import ModelCall, bare, children, find_all, own_nodes


def is_grouped(select: exp.Select, catalog: Catalog) -> bool:
    """Whether a block forms groups, one group without keys included."""
    if select.args.get("having") or _groups_by_keys(select, catalog):
        return True
    return any(
        clause in ("expressions", "order", "qualify") and _aggregates(part, catalog)
        for clause, part in clause_parts(select)
    )


def _groups_by_keys(select: exp.Select, catalog: Catalog) -> bool:
    group = select.args.get("group")
    if group is None:
        return False
    return bool(group_keys(select, catalog)) if group.args.get("all") else True


def _aggregates(tree: exp.Expr, catalog: Catalog) -> bool:
    return any(
        is_aggregate(node, catalog)
        and not (isinstance(node.parent, exp.Filter) and isinstance(node.parent.parent, exp.Window))
        for node in own_nodes(tree)
    )


def is_row_call(call: ModelCall, select: exp.Select, catalog: Catalog) -> bool:
    """Whether a call is made per row: inside an aggregate, in WHERE or ON, or in a group key."""
    group = select.args.get("group")
    keys = group_keys(select, catalog) if group is not None else []
    node: exp.Expr | None = call
    while node is not None and node is not select:
        if isinstance(node, exp.Where | exp.Group | exp.Join) or node in keys:
            return True
        if isinstance(node, exp.Anonymous) and catalog.is_aggregate(node.name):
            return True
        node = node.parent
    return False


def group_keys(select: exp.Select, catalog: Catalog) -> list[exp.Expr]:
    """List the expressions that a block groups by; positions and aliases resolved.

    A name is that of a column before it is that of an item. GROUP BY ALL means the items that
    read columns. Without any it does not group at all. A key is the same with parentheses around
    it, and has none here.
    """
    group = select.args["group"]
    items = [bare(item.unalias()) for item in select.expressions]
    if group.args.get("all"):
        constants = _constants(select, catalog)
        return [
            item
            for item, constant in zip(items, constants, strict=True)
            if not constant and not _aggregates(item, catalog)
        ]
    aliases = {item.alias.lower(): bare(item.this) for item in select.expressions if item.alias}
    keys = []
    for key in map(bare, group.expressions):
        if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.this) <= len(items):
            key = items[int(key.this) - 1]
        elif _is_bare_name(key) and not _is_column(key, select, catalog, aliases):
            key = aliases.get(key.name.lower(), key)
        keys.append(key)
    return keys


def partition_keys(select: exp.Select) -> list[exp.Expr]:
    """List the expressions by which all windows of a block are partitioned, if it has any.

    None of a block that is grouped, whose windows are over groups, or that names its windows.
    """
    if any(select.args.get(name) for name in ("group", "having", "windows")):
        return []
    windows = [
        node
        for name in ("expressions", "qualify", "distinct", "order")
        for part in _listed(select.args.get(name))
        for node in own_nodes(part)
        if isinstance(node, exp.Window)
    ]
    keys = [[bare(key) for key in window.args.get("partition_by") or []] for window in windows]
    shared = [key for key in keys[0] if all(key in others for others in keys)] if keys else []
    return [key for key in shared if key.find(exp.Query) is None]


def _listed(value: exp.Expr | list[exp.Expr] | None) -> list[exp.Expr]:
    return value if isinstance(value, list) else [] if value is None else [value]


def computed_of(part: exp.Expr, keys: Collection[exp.Expr], catalog: Catalog) -> bool:
    """Whether an expression is computed of keys and constants: the same where they are."""
    names = {key.name.lower() for key in keys if _is_bare_name(key)}
    waiting = [part]
    while waiting:
        node = waiting.pop()
        if bare(node) in keys or (_is_bare_name(node) and node.name.lower() in names):
            continue
        if isinstance(node, exp.Column | exp.Query | exp.Star | exp.Window):
            return False
        if isinstance(node, exp.Anonymous) and catalog.is_volatile(node.name):
            return False
        if is_aggregate(node, catalog):
            return False
        waiting.extend(children(node))
    return True


def _is_column(
    key: exp.Expr, select: exp.Select, catalog: Catalog, aliases: Collection[str]
) -> bool:
    """Whether a name that is an item's is that of a column of FROM, too."""
    if key.name.lower() not in aliases:
        return True
    return catalog.columns(in_scope(select, rows_of(select, [key.copy()]))) is not None


def _is_bare_name(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and not node.table


def _constants(select: exp.Select, catalog: Catalog) -> list[bool]:
    """Say of each item of a block whether it reads no column of the block's FROM."""
    constants: list[exp.Expr] = []
    found = []
    for item in select.expressions:
        found.append(_is_constant([*constants, item], select, catalog))
        if found[-1]:
            constants.append(item)  # a later item may name its alias
    return found


def _is_constant(items: list[exp.Expr], select: exp.Select, catalog: Catalog) -> bool:
    """Whether items bind without the FROM of their block: alone, or over that around it."""
    outer = enclosing(select)
    if is_star(items[-1].unalias()):
        return False
    if outer is None and isinstance(items[-1].unalias(), exp.Column):
        return False

    def binds(query: exp.Select, place: exp.Select) -> bool:
        query.set("expressions", [item.copy() for item in items])
        return catalog.columns(in_scope(place, query)) is not None

    if binds(exp.Select(), select):
        return True
    return (
        outer is not None
        and not binds(rows_of(select, []), select)
        and binds(rows_of(outer, []), outer)
    )


def groups_by_having(select: exp.Select, catalog: Catalog) -> bool:
    """Whether HAVING decides the groups: under GROUP BY ALL DuckDB groups by its columns too."""
    group, having = select.args.get("group"), select.args.get("having")
    if group is None or having is None or not group.args.get("all"):
        return False
    keys = group_keys(select, catalog)
    return any(
        column not in keys and not _in_aggregate(column, having, catalog)
        for column in find_all(having, exp.Column)
    )


def _in_aggregate(node: exp.Expr, top: exp.Expr, catalog: Catalog) -> bool:
    at: exp.Expr | None = node
    while at is not None and at is not top:
        if is_aggregate(at, catalog):
            return True
        at = at.parent
    return False
