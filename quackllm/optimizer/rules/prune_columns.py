"""A column that nobody reads is not asked for.

What only computes columns `merge_derived` has written into its reader before; here are those
that cannot be merged, such as one with a filter that calls a model, beside a join.

Before: FROM (SELECT film, LLM('...', body) AS why FROM r WHERE LLM_FILTER('...', body)) d
        JOIN m ON d.film = m.id, why never read
After:  FROM (SELECT film, NULL AS why FROM r WHERE LLM_FILTER('...', body)) d
        JOIN m ON d.film = m.id
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import (
    beside,
    enclosing,
    in_scope,
    selects,
    source_parts,
)
from quackllm.optimizer.split import is_columns, is_star, nested_aliases, open_aliases
from quackllm.optimizer.sql import bare, find_all, has_calls, own_nodes, raw

DECIDING = ("distinct", "qualify")
"""Clauses through which a select item decides which rows there are."""

INNER = exp.Column(this=exp.Star(), table=exp.to_identifier("__llm_inner"))
"""All columns of the query that `beside` evaluates."""

OWN = ("where", "group", "having", "order")
"""Clauses of the query itself that may name its columns."""


def prune_columns(plan: Plan, catalog: Catalog) -> Plan:
    """Replace items with calls by NULL in derived tables, CTEs and EXISTS that do not show them."""
    if not plan.has_nested_calls:
        return plan
    root = plan.root.copy()
    pruned = [_drop_unread_ctes(root)]
    pruned.extend(_prune(select, root, catalog) for select in selects(root))
    return replace(plan, root=root) if any(pruned) else plan


def _calls(select: exp.Select) -> bool:
    return any(has_calls(item) for item in select.expressions)


def _drop_unread_ctes(root: exp.Expr) -> bool:
    """Drop CTEs that no FROM names: DuckDB does not run them, nor what only they read."""
    dropped = False
    named = Counter(table.name.lower() for table in find_all(root, exp.Table))
    for with_ in list(find_all(root, exp.With)):
        if not has_calls(with_):
            continue
        for cte in reversed(list(with_.expressions)):
            inside = Counter(table.name.lower() for table in find_all(cte, exp.Table))
            if named[cte.alias.lower()] > inside[cte.alias.lower()]:  # a recursive one reads itself
                continue
            named.subtract(inside)
            cte.pop()
            dropped = True
        if not with_.expressions:
            with_.pop()
    return dropped


def _prune(select: exp.Select, root: exp.Expr, catalog: Catalog) -> bool:
    if any(select.args.get(name) for name in DECIDING) or not _calls(select):
        return False
    if select.args.get("group") is None and is_grouped(select, catalog):
        return False  # its aggregates are what makes it one row
    readers = _readers(select, root)
    if readers is None or any(is_star(item.unalias()) for item in select.expressions):
        return False
    columns = catalog.columns(in_scope(select, select.copy()))
    outer = enclosing(select)
    if columns is None and outer is not None:
        columns = catalog.columns(in_scope(outer, beside(outer, select, select.copy(), [INNER])))
    if columns is None or len(columns) != len(select.expressions):
        return False
    pruned = False
    keys = _keys(select)
    uses = [*open_aliases(select, catalog), *nested_aliases(select, catalog)]
    named_inside = {use.name.lower() for use in uses}
    for item, (name, type_) in zip(list(select.expressions), columns, strict=True):
        value = item.unalias()
        if value in keys or not has_calls(value) or value.find(exp.Query) is not None:
            continue
        if name.lower() not in named_inside and not _is_read(name, readers):
            empty = raw(f"CAST(NULL AS {type_})")
            item.replace(exp.Alias(this=empty, alias=exp.to_identifier(name, quoted=True)))
            pruned = True
    return pruned


def _keys(select: exp.Select) -> list[exp.Expr]:
    """Items that decide the groups or the order: by position, by themselves, all of them."""
    values = _items(select)
    group, order = select.args.get("group"), select.args.get("order")
    if group is not None and group.args.get("all"):
        return values
    parts = [*(group.expressions if group else []), *(order.expressions if order else [])]
    named = [part.this if isinstance(part, exp.Ordered) else part for part in parts]
    if any(isinstance(part, exp.Var) and part.name.lower() == "all" for part in named):
        return values
    numbers = [bare(part) for part in named]
    if group is not None:  # positions stand inside of grouping sets, too
        numbers += group.find_all(exp.Literal)
    positions = [
        int(part.this) for part in numbers if isinstance(part, exp.Literal) and part.is_int
    ]
    chosen = [values[at - 1] for at in positions if 0 < at <= len(values)]
    return [*chosen, *(part for part in named if not isinstance(part, exp.Literal))]


def _items(select: exp.Select) -> list[exp.Expr]:
    return [item.unalias() for item in select.expressions]


def _readers(select: exp.Select, root: exp.Expr) -> list[exp.Expr] | None:
    """The trees in which a column of the query may be named; None when that is open."""
    parent = select.parent
    own = [part for part in map(select.args.get, OWN) if isinstance(part, exp.Expr)]
    uses: list[exp.Expr] = []
    if isinstance(parent, exp.CTE):
        uses.extend(table for table in find_all(root, exp.Table) if table.name == parent.alias)
        with_ = parent.parent
        if parent.args["alias"].columns or (with_ is not None and with_.args.get("recursive")):
            return None
    elif isinstance(parent, exp.Subquery) and isinstance(parent.parent, exp.From | exp.Join):
        alias = parent.args.get("alias")
        if alias is not None and alias.columns:
            return None
        uses = [parent]
    elif isinstance(parent, exp.Subquery) and isinstance(parent.parent, exp.Lateral):
        uses = [parent.parent]
        alias = parent.parent.args.get("alias")
        if alias is not None and alias.columns:
            return None
    elif isinstance(parent, exp.Exists):  # it asks whether there is a row
        uses = []
    else:
        return None
    readers = list(own)
    for use in uses:
        reader = use.find_ancestor(exp.Select)
        if reader is None or not _names_its_columns(reader):
            return None
        readers.append(_without(reader, select))
    return readers


def _without(reader: exp.Select, select: exp.Select) -> exp.Expr:
    """The reading SELECT, the query that is read taken out."""

    def cut(node: exp.Expr) -> exp.Expr:
        return exp.Select(expressions=[exp.null()]) if node == select else node

    return reader.copy().transform(cut)


def _names_its_columns(reader: exp.Select) -> bool:
    """Whether a SELECT reads columns by name only: no star, no USING, no whole rows."""
    if any(is_star(item.unalias()) for item in reader.expressions):
        return False
    sources = find_all(reader, exp.Table, exp.Subquery, exp.Lateral)
    named = [source.alias_or_name.lower() for source in sources]
    for node in reader.walk():
        if is_columns(node):
            return False
        if isinstance(node, exp.Column) and node.name.lower() in named:
            return False  # the alias as a value is the whole row
        if is_star(node) and not isinstance(node.parent, exp.Anonymous):
            return False
    own = (node for part in source_parts(reader) for node in own_nodes(part))
    joins = (node for node in own if isinstance(node, exp.Join))
    return not any(join.args.get("using") or join.method for join in joins)


def _is_read(name: str, readers: list[exp.Expr]) -> bool:
    return any(
        node.name.lower() == name.lower()
        for reader in readers
        for node in find_all(reader, exp.Column, exp.Identifier)
    )
