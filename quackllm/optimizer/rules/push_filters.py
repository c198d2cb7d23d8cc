"""A condition on a derived table is a condition on the rows that it is made of.

Of derived tables and of CTEs that are read once, where `merge_derived` could not write them
into their reader. DuckDB does the same below our calls when it evaluates them; here it has to
be done before they are staged. Where the query ranks its rows, the condition becomes one of
QUALIFY, which takes no row from what is ranked: it says which ranks are read. Below windows go
those on keys by which all of them are partitioned. Selection before anything dearer: Smith and
Chang, "Optimizing the Performance of a Relational Algebra Database Interface" (CACM 1975).

Before: FROM (SELECT film, stars, LLM('...', body) AS why FROM r) d JOIN m ON d.film = m.id
        WHERE d.stars > 3
After:  FROM (SELECT film, stars, LLM('...', body) AS why FROM r WHERE stars > 3) d
        JOIN m ON d.film = m.id WHERE d.stars > 3
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import computed_of, partition_keys
from quackllm.optimizer.naive import is_joint
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import (
    after_grouping,
    in_scope,
    reads_only_its_from,
    selects,
)
from quackllm.optimizer.split import aliased_items, is_star
from quackllm.optimizer.sql import (
    ModelCall,
    conjunction,
    conjuncts,
    find_all,
    has_calls,
    held,
    own_nodes,
    released,
)

CUT = ("distinct", "limit", "offset", "sample")
"""Clauses of the inner query that take rows away behind QUALIFY."""

FIXED = ("group", "having", "qualify", "windows", *CUT)
"""Clauses of the inner query under which its rows depend on one another."""


def push_filters(plan: Plan, catalog: Catalog) -> Plan:
    """Copy conditions without calls into the queries with calls whose columns they name."""
    if not plan.has_nested_calls:
        return plan
    root = plan.root.copy()
    read_once = ctes_read_once(root)
    pushed = False
    for select in reversed(selects(root)):  # outer queries first: conditions move on
        where = select.args.get("where")
        for source, inner in _sources(select, read_once):
            parts = conjuncts(where.this) if where is not None else []
            clause = _clause(inner, catalog) if parts else None
            if clause is not None:
                pushed |= _push(parts, clause, select, source, inner, catalog)
            elif keys := _partitions(inner, catalog) if parts else []:
                pushed |= _push(parts, exp.Where, select, source, inner, catalog, keys)
    return replace(plan, root=root) if pushed else plan


def _sources(
    select: exp.Select, read_once: Mapping[str, exp.Expr]
) -> Iterator[tuple[exp.Expr, exp.Select]]:
    """The derived tables, and CTEs read once, whose rows WHERE of the query restricts."""
    from_ = select.args.get("from_")
    joins = select.args.get("joins", [])
    outer_sides = {(join.side or "").upper() for join in joins}
    sources = [] if outer_sides & {"RIGHT", "FULL"} or from_ is None else [from_.this]
    if any(join.method == "POSITIONAL" for join in joins):  # it counts rows
        return
    for join in joins:
        kind = (join.args.get("kind") or "").upper()
        if not join.side and not join.method and kind in ("", "INNER", "CROSS"):
            sources.append(join.this)
    for source in sources:
        inner = body_of(source, read_once)
        if isinstance(inner, exp.Select) and reads_calls(inner, read_once):
            yield source, inner


def reads_calls(query: exp.Expr, read_once: Mapping[str, exp.Expr]) -> bool:
    """Whether a query calls a model, or a CTE that only it reads does."""
    if has_calls(query):
        return True
    named = {table.name for table in find_all(query, exp.Table)}
    bodies = [read_once[name] for name in named if name in read_once]
    return any(body is not query and reads_calls(body, read_once) for body in bodies)


def ctes_read_once(root: exp.Expr) -> dict[str, exp.Expr]:
    """Return the bodies of the CTEs that a single FROM reads, by their names."""
    readers = Counter(table.name for table in find_all(root, exp.Table))
    ctes = list(find_all(root, exp.CTE))
    names = Counter(cte.alias for cte in ctes)
    return {
        cte.alias: cte.this
        for cte in ctes
        if readers[cte.alias] == names[cte.alias] == 1 and not _is_fixed(cte)
    }


def body_of(source: exp.Expr, read_once: Mapping[str, exp.Expr]) -> exp.Expr | None:
    """Return the query that a source reads: a derived table, or a CTE that is read once.

    None of a sample, which is drawn of the rows that the query has.
    """
    if source.args.get("sample"):
        return None
    if isinstance(source, exp.Subquery):
        body: exp.Expr = source.this
        return body
    if not isinstance(source, exp.Table) or source.args.get("db"):
        return None
    return read_once.get(source.name)


def _is_fixed(cte: exp.CTE) -> bool:
    with_ = cte.parent
    recursive = with_ is not None and with_.args.get("recursive")
    return bool(cte.args.get("materialized") or recursive or cte.args["alias"].columns)


def _clause(inner: exp.Select, catalog: Catalog) -> type[exp.Where | exp.Qualify] | None:
    """The clause in which a query can be restricted; None where it cannot."""
    plain = not any(after_grouping(item, catalog) for item in inner.expressions)
    if plain and not any(inner.args.get(name) for name in FIXED):
        return exp.Where
    ranks = any(is_joint(node) for item in inner.expressions for node in own_nodes(item))
    return exp.Qualify if ranks and not any(inner.args.get(name) for name in CUT) else None


def _partitions(inner: exp.Select, catalog: Catalog) -> list[exp.Expr]:
    """What all windows of a query are partitioned by, where its other rows are not needed."""
    if any(inner.args.get(name) for name in CUT) or not inner.find(exp.Window):
        return []
    return partition_keys(inner)


def _push(
    parts: list[exp.Expr],
    clause: type[exp.Where | exp.Qualify],
    select: exp.Select,
    source: exp.Expr,
    inner: exp.Select,
    catalog: Catalog,
    keys: Collection[exp.Expr] = (),
) -> bool:
    """Push conditions into a query; with keys only those that are computed of them."""
    alias = source.args.get("alias")
    if alias is not None and alias.columns:
        return False
    alone = not select.args.get("joins")
    moved = []
    for part in parts:
        if has_calls(part) or part.find(exp.Query) is not None or _volatile(part, catalog):
            continue
        inside = over_items(part, source.alias_or_name, inner, alone)
        if inside is None or _volatile(inside, catalog):
            continue
        if keys and not computed_of(inside, keys, catalog):
            continue
        if _names_inner(part, select, inner, catalog):
            moved.append(inside)
    before = inner.args.get(clause.key)
    known = conjuncts(before.this if before else None)
    moved = [part for part in moved if part not in known]
    if moved:
        inner.set(clause.key, clause(this=conjunction([*moved, *known])))
    return bool(moved)


def _names_inner(part: exp.Expr, select: exp.Select, inner: exp.Select, catalog: Catalog) -> bool:
    """Whether columns without a table are those of the query, not of a row around it or aliases.

    Under a star that query does not list them, and a name that it lacks is the outer row's, or
    that of a select item where `inline_aliases` has left one.
    """
    bare = {column.name.lower() for column in find_all(part, exp.Column) if not column.table}
    alone = reads_only_its_from(select) and not bare & aliased_items(select).keys()
    if not bare or alone or not any(map(is_star, inner.expressions)):
        return True
    columns = catalog.columns(in_scope(inner, inner.copy()))
    return columns is not None and bare <= {name.lower() for name, _ in columns}


def over_items(part: exp.Expr, name: str, inner: exp.Select, alone: bool) -> exp.Expr | None:
    """An expression over what a query selects, written over the rows it selects from.

    name: what the query is called where the expression stands. alone: whether a column
    without the name is the query's too. None when it names other columns, or an answer.
    """
    columns = list(find_all(part, exp.Column))
    if not columns:
        return None
    copy = held(part.copy())
    for column in list(find_all(copy, exp.Column)):
        qualified = column.table.lower() == name.lower() if column.table else alone
        value = _item(column.name, inner) if qualified else None
        if value is None or asks_of_rows(value) or value.find(exp.Query) is not None:
            return None
        plain = isinstance(value, exp.Column)
        column.replace(value.copy() if plain else exp.paren(value.copy(), copy=False))
    return released(copy)


def asks_of_rows(value: exp.Expr) -> bool:
    """Whether a value is computed by a call about each row, not about all of them together."""
    return any(not is_joint(call) for call in value.find_all(ModelCall))


def _item(name: str, inner: exp.Select) -> exp.Expr | None:
    """What a column of the inner query stands for."""
    values = [
        item.unalias()
        for item in inner.expressions
        if item.alias_or_name.lower() == name.lower() and not is_star(item.unalias())
    ]
    if len(values) == 1:
        only: exp.Expr = values[0]
        return only
    stars = [item for item in inner.expressions if _is_plain_star(item)]
    if stars and not values and not inner.args.get("joins"):
        return exp.column(exp.to_identifier(name, quoted=True))
    return None


def _is_plain_star(item: exp.Expr) -> bool:
    """Whether an item is `*` or `t.*`, with nothing left out or replaced."""
    star = item.this if isinstance(item, exp.Column) else item
    return isinstance(star, exp.Star) and not any(star.args.values())


def _volatile(part: exp.Expr, catalog: Catalog) -> bool:
    return any(catalog.is_volatile(node.name) for node in find_all(part, exp.Anonymous))
