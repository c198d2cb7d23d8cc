"""A derived table that only computes columns is written into the query that reads it.

What the reader does not read is then not there, and its WHERE, ORDER BY and LIMIT reach
the calls. Of a CTE likewise, if it is read once. DuckDB does the same when it plans. A sample of
its rows is then one of the rows that they are computed of. View merging: Pirahesh, Hellerstein
and Hasan, "Extensible/Rule Based Query Rewrite Optimization in Starburst" (SIGMOD 1992).

Before: SELECT title FROM (SELECT title, LLM('...', body) AS why FROM x) AS d LIMIT 10
After:  SELECT title AS title FROM x LIMIT 10
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.separate_sample import is_qualified, sampled
from quackllm.optimizer.scope import (
    after_grouping,
    clause_parts,
    groups_by_items,
    has_grouping_sets,
    in_scope,
    rows_of,
    selects,
    source_parts,
)
from quackllm.optimizer.split import is_columns, is_star, nested_aliases, open_aliases, order_keys
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls, held, released

ONLY = frozenset({"from_", "joins", "laterals", "where", "expressions", "order"})
"""Clauses of a query that computes columns of rows and nothing else."""

NAMED_LATER = ("group", "having", "qualify", "order", "distinct", "windows")
"""Clauses in which the alias of an item may be meant rather than a column."""


def merge_derived(plan: Plan, catalog: Catalog) -> Plan:
    """Merge derived tables with calls, inner ones first."""
    if not plan.holds(exp.CTE, exp.Subquery):
        return plan
    root = held(plan.root.copy())
    changed = False
    for select in list(selects(root)):
        changed |= _inline_cte(select)
        changed |= _merge(select, catalog)
    return replace(plan, root=released(root)) if changed else plan


def _inline_cte(select: exp.Select) -> bool:
    """Put the CTE that is all a query reads, or samples, in the place of its name."""
    from_ = select.args.get("from_")
    table = from_.this if from_ is not None else None
    if not isinstance(table, exp.Table) or select.args.get("joins"):
        return False
    if table.args.get("db") or any(table.args.get(key) for key in ("joins", "pivots")):
        return False
    reader = _around_sample(select, table)
    with_ = reader.args.get("with_")
    if with_ is None or with_.recursive:
        return False
    ctes = list(with_.expressions)
    found = [at for at, cte in enumerate(ctes) if cte.alias.lower() == table.name.lower()]
    if len(found) != 1 or not has_calls(ctes[found[0]]):
        return False
    cte, later = ctes[found[0]], {other.alias.lower() for other in ctes[found[0] :]}
    readers = [other for other in reader.find_all(exp.Table) if other.name.lower() in later]
    if cte.args.get("materialized") or not isinstance(cte.this, exp.Query):
        return False
    if [id(other) for other in readers if other.name.lower() == cte.alias.lower()] != [id(table)]:
        return False
    if any(other.name.lower() in later for other in cte.find_all(exp.Table)):
        return False
    alias = table.args.get("alias")
    given = list(alias.columns) if alias is not None else []
    columns = [*given, *cte.args["alias"].columns[len(given) :]]
    name = exp.to_identifier(table.alias_or_name, quoted=True)
    table.replace(
        exp.Subquery(
            this=cte.this.copy(),
            alias=exp.TableAlias(this=name, columns=[column.copy() for column in columns]),
            sample=table.args.get("sample"),
        )
    )
    cte.pop()
    if not with_.expressions:
        with_.pop()
    return True


def _around_sample(select: exp.Select, table: exp.Table) -> exp.Select:
    """The query that `separate_sample` has put a sample of a table into; else the query itself."""
    holder = select.parent
    around = holder.parent.parent if holder is not None and holder.parent is not None else None
    samples = select.args.get("sample") or table.args.get("sample")
    in_from = isinstance(holder, exp.Subquery) and isinstance(holder.parent, exp.From)
    is_inside = in_from and samples and select.args.get("with_") is None
    return around if is_inside and isinstance(around, exp.Select) else select


def _merge(select: exp.Select, catalog: Catalog) -> bool:
    from_ = select.args.get("from_")
    derived = from_.this if from_ is not None else None
    if not isinstance(derived, exp.Subquery) or not isinstance(derived.this, exp.Select):
        return False
    inner = derived.this
    if not has_calls(inner) or not _only_computes(inner, catalog) or not _reads_plainly(select):
        return False
    if not _can_be_sampled(inner) and _samples(select):
        return False
    values = _values(derived, inner, catalog)
    described = catalog.columns(in_scope(select, select.copy()))
    order = _order(inner, select, catalog)
    if values is None or described is None or order is None:
        return False
    name = derived.alias_or_name.lower()
    items = list(_items(select, name, values))
    if len(items) != len(described) or not _can_be_rewritten(select, name, values):
        return False
    for clause, part in list(clause_parts(select)):
        if clause != "expressions":
            _rewrite(part, values)
    named = zip(items, described, strict=True)
    select.set(
        "expressions",
        [exp.Alias(this=v, alias=exp.to_identifier(n, quoted=True)) for v, (n, _) in named],
    )
    outer_where, inner_where = select.args.get("where"), inner.args.get("where")
    parts = [*_conditions(inner_where), *_conditions(outer_where)]
    select.set("where", exp.Where(this=conjunction(parts)) if parts else None)
    _read_from(select, inner)
    if order:
        select.set("order", exp.Order(expressions=order))
    return True


def _read_from(select: exp.Select, inner: exp.Select) -> None:
    """Have a query read what its derived table reads, or the sample of that."""
    samples = _samples(select)
    for clause in ("from_", "joins", "laterals"):
        select.set(clause, inner.args.get(clause))
    for sample in samples:
        source = select.args["from_"].this
        source.replace(sampled(source, sample))
    select.set("sample", None)


def _order(inner: exp.Select, select: exp.Select, catalog: Catalog) -> list[exp.Ordered] | None:
    """The order of a derived table, which its reader keeps; None where it may not, or changes it.

    A key that is a name of the reader's would mean the reader's item.
    """
    if inner.args.get("order") is None:
        return []
    keys = order_keys(inner)
    if keys is None or any(select.args.get(name) for name in NAMED_LATER):
        return None
    if is_grouped(select, catalog) or any(key.find(exp.Column) is None for key in keys):
        return None
    items = {item.alias_or_name.lower(): item.unalias() for item in select.expressions}
    for key in keys:
        for node in key.find_all(exp.Column):
            if node.name.lower() in items and items[node.name.lower()] != node:
                return None
    return keys


def _only_computes(inner: exp.Select, catalog: Catalog) -> bool:
    """Whether each row of a query is made of one row of its FROM, always the same."""
    if any(value for name, value in inner.args.items() if name not in ONLY):
        return False
    if open_aliases(inner, catalog) or nested_aliases(inner, catalog):
        return False  # the reader may give the same alias to another item
    if inner.args.get("from_") is None or inner.find(exp.Pivot) is not None:
        return False
    if any(_is_sampled(part.this) for part in source_parts(inner)):
        return False
    for item in inner.expressions:
        if item.find(exp.Query) is not None or after_grouping(item, catalog):
            return False
        functions = [node.name.lower() for node in item.find_all(exp.Anonymous)]
        if "unnest" in functions or any(map(is_columns, item.walk())):
            return False
    functions = [node.name for node in inner.find_all(exp.Anonymous)]
    return not any(catalog.is_volatile(name) for name in functions)


def _is_sampled(source: exp.Expr) -> bool:
    """Whether a source has a sample that is not one inside a query of its own."""
    own = source.walk(prune=lambda node: isinstance(node, exp.Select | exp.SetOperation))
    return any(isinstance(node, exp.TableSample) for node in own)


def _samples(select: exp.Select) -> list[exp.Expr]:
    """The samples of the derived table that a query reads, in the order they are taken in."""
    derived = select.args["from_"].this
    found = [holder.args.get("sample") for holder in (derived, select)]
    return [sample for sample in found if sample is not None]


def _can_be_sampled(inner: exp.Select) -> bool:
    """Whether the rows of a query are those of its one source, in its order."""
    source = inner.args["from_"].this
    if any(inner.args.get(name) for name in ("joins", "laterals", "where", "order")):
        return False
    plain = isinstance(source, exp.Table | exp.Subquery) and bool(source.alias_or_name)
    return plain and not is_qualified(inner)


def _reads_plainly(select: exp.Select) -> bool:
    """Whether a query reads one derived table, without queries inside its own clauses."""
    derived = select.args["from_"].this
    if has_grouping_sets(select):  # DuckDB knows their keys by their text
        return False
    if any(select.args.get(name) for name in ("joins", "laterals", "pivots")):
        return False
    if any(derived.args.get(name) for name in ("joins", "pivots", "with_")):
        return False
    parts = [part for _, part in clause_parts(select)]
    if any(_spreads(node) for part in parts for node in part.walk()):
        return False
    own_scope = (exp.Query, exp.Lambda, exp.Comprehension)
    return not any(part.find(*own_scope) is not None for part in parts)


def _spreads(node: exp.Expr) -> bool:
    """Whether a node stands for several columns elsewhere than as an item of its own."""
    if is_columns(node):
        return True
    if not isinstance(node, exp.Star):
        return False
    holder = node.parent if isinstance(node.parent, exp.Column) else node
    parent = holder.parent
    counts = isinstance(parent, exp.Anonymous) and parent.name.lower() == "count"
    return not counts and not isinstance(parent, exp.Select)


def _values(
    derived: exp.Subquery, inner: exp.Select, catalog: Catalog
) -> dict[str, exp.Expr] | None:
    """What each column of a derived table is computed by, names in lower case."""
    columns = catalog.columns(in_scope(inner, inner.copy()))
    if columns is None:
        return None
    expressions: list[exp.Expr] = []
    for item in inner.expressions:
        if is_star(item.unalias()):
            of_star = _columns_of_star(inner, item, catalog)
            if of_star is None:
                return None
            expressions.extend(of_star)
        else:
            expressions.append(item.unalias())
    alias = derived.args.get("alias")
    given = [identifier.name for identifier in alias.columns] if alias is not None else []
    names = [*given, *(name for name, _ in columns[len(given) :])]
    values = {name.lower(): value for name, value in zip(names, expressions, strict=False)}
    return values if len(values) == len(expressions) == len(names) else None


def _columns_of_star(inner: exp.Select, item: exp.Expr, catalog: Catalog) -> list[exp.Expr] | None:
    """The columns of a plain star over one source."""
    from_ = inner.args["from_"].this
    star = item.this if isinstance(item, exp.Column) else item
    if inner.args.get("joins") or inner.args.get("laterals") or any(star.args.values()):
        return None
    columns = catalog.columns(in_scope(inner, rows_of(inner, [item.copy()])))
    if columns is None or not from_.alias_or_name:
        return None
    table = exp.to_identifier(from_.alias_or_name, quoted=True)
    return [exp.column(exp.to_identifier(n, quoted=True), table=table.copy()) for n, _ in columns]


def _items(select: exp.Select, name: str, values: Mapping[str, exp.Expr]) -> Iterator[exp.Expr]:
    """The items of a query over what the derived table is computed of."""
    for item in select.expressions:
        value = item.unalias()
        star = value.this if isinstance(value, exp.Column) else value
        if is_star(value) and not any(star.args.values()):
            yield from (each.copy() for each in values.values())
        elif not is_star(value):
            holder = held(value.copy())
            _rewrite(holder, values)
            yield released(holder)


def _can_be_rewritten(select: exp.Select, name: str, values: Mapping[str, exp.Expr]) -> bool:
    """Whether every column that a query names is surely one of the derived table's."""
    if groups_by_items(select) and not all(value.find(exp.Column) for value in values.values()):
        return False
    aliases = {item.alias.lower(): item.this for item in select.expressions if item.alias}
    later = any(select.args.get(clause) for clause in NAMED_LATER)
    for alias, value in aliases.items():
        is_same = isinstance(value, exp.Column) and value.name.lower() == alias
        if later and alias in values and not is_same:
            return False
    for clause, part in clause_parts(select):
        for node in part.find_all(exp.Column):
            if is_star(node) and clause == "expressions" and node.table.lower() == name:
                continue
            known = node.name.lower() in values and node.table.lower() in ("", name)
            by_alias = clause == "order" and not node.table and node.name.lower() in aliases
            if node.args.get("db") or is_star(node) or not (known or by_alias):
                return False
            constant = known and values[node.name.lower()].find(exp.Column) is None
            if constant and clause in ("group", "order", "distinct"):
                return False  # a number would be a position there
    return True


def _rewrite(tree: exp.Expr, values: Mapping[str, exp.Expr]) -> None:
    """Write, in place, what the columns of the derived table are computed by."""
    for node in list(tree.find_all(exp.Column)):
        value = values.get(node.name.lower())
        if value is not None:
            simple = isinstance(value, exp.Column) or node.parent is tree
            node.replace(value.copy() if simple else exp.paren(value.copy(), copy=False))


def _conditions(where: exp.Expr | None) -> list[exp.Expr]:
    return conjuncts(where.this if where is not None else None)
