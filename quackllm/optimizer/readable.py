"""A plan's SQL as a person would write it: names for numbered columns, no needless nesting.

Rules that cut a SELECT in two number the columns of the inner one, and quote every name
they add. That is right for DuckDB and hard to read. What is written here is only shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sqlglot import exp

from quackllm.optimizer.plan import MATERIALIZE, Block, Plan, Site
from quackllm.optimizer.split import CARRIED
from quackllm.optimizer.sql import DIALECT, ModelCall, held, own_nodes, raw, released, text

PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
NUMBERED = re.compile(rf"{CARRIED}\d+")
ADDED = "__llm_"
"""Prefix of the names that rules add."""

KEPT = "kept_rows"
"""What the rows that a stage keeps are called."""

ROW_NUMBER = "__llm_row"
"""Column in which the order of rows is kept."""


def kept_queries(plan: Plan) -> list[exp.Query]:
    """List the queries of a plan whose rows are kept, in the order in which they are run."""
    return [query for query in plan.queries if query.meta_get(MATERIALIZE)]


def readable(plan: Plan, tree: exp.Expr) -> str:
    """Write a tree for a person: staged calls by name and number, kept rows by name."""
    names = {site.column: _name_of(site) for block in plan.blocks for site in block.sites}

    def show(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.table and node.name in names:
            return raw(names[node.name])
        if isinstance(node, exp.Query) and node.meta_get(MATERIALIZE) and node is not shown:
            return kept_rows(node)
        if isinstance(node, ModelCall):
            return raw(f"{plan.calls[node.spec].function.upper()}(...)")
        return node

    shown = tree.copy()
    return text(simplified(shown.transform(show, copy=False)))


def simplified(tree: exp.Expr) -> exp.Expr:
    """Return the tree with names in the place of numbers; it may no longer be executable."""
    holder = held(tree.copy())
    for derived in list(holder.find_all(exp.Subquery))[::-1]:  # inner ones first
        _without_row_number(derived)
    for derived in list(holder.find_all(exp.Subquery))[::-1]:
        _with_names(derived)
        _without_wrapper(derived)
    for alias in list(holder.find_all(exp.Alias)):
        if isinstance(alias.this, exp.Column) and alias.this.name == alias.alias:
            alias.replace(alias.this)
    for column in list(holder.find_all(exp.Column)):
        if column.name == ROW_NUMBER:
            column.replace(raw("rowid"))
    for name in holder.find_all(exp.Identifier):
        if NUMBERED.fullmatch(name.name):
            name.set("this", name.name.removeprefix(ADDED))
        if name.args.get("quoted") and _is_plain(name.name):
            name.set("quoted", False)
    return released(holder)


def kept_rows(query: exp.Query) -> exp.Select:
    """Write what reads the kept rows of a query, its columns by name where they have one."""
    items = query.selects
    plain = all(isinstance(item, exp.Column) and not item.is_star for item in items)
    names = [exp.column(item.this.copy()) for item in items] if plain else [exp.Star()]
    return exp.Select(expressions=names).from_(KEPT)


def _is_plain(name: str) -> bool:
    return bool(PLAIN.fullmatch(name)) and name.upper() not in DIALECT.tokenizer_class.KEYWORDS


def _without_row_number(derived: exp.Subquery) -> None:
    """(SELECT *, row_number() OVER () AS __llm_row FROM x) AS x is x, in its order."""
    select = derived.this
    if not isinstance(select, exp.Select) or len(select.expressions) != 2:
        return
    star, number = select.expressions
    source = _only_source(select)
    if not isinstance(star, exp.Star) or number.alias != ROW_NUMBER or source is None:
        return
    replacement = source.copy()
    if replacement.args.get("alias") is None and not derived.alias.startswith(ADDED):
        replacement.set("alias", derived.args.get("alias"))
    derived.replace(replacement)


def _with_names(derived: exp.Subquery) -> None:
    """Give the columns of a derived table names, in it and in the SELECT that reads it."""
    alias, outer, inner = derived.args.get("alias"), derived.parent_select, derived.this
    names = _names_of(derived)
    if alias is None or outer is None or not names:
        return
    numbers = list(names)
    for node in [node for part in outer.iter_expressions() for node in own_nodes(part)]:
        if isinstance(node, exp.Column) and not node.table and node.name in names:
            node.replace(exp.column(exp.to_identifier(names[node.name], quoted=True)))
    items = inner.expressions
    if len(items) == len(numbers) and not any(item.is_star for item in items):
        inner.set(
            "expressions",
            [
                item
                if isinstance(item, exp.Column) and item.name == names[number]
                else exp.alias_(item, names[number], quoted=True)
                for item, number in zip(items, numbers, strict=True)
            ],
        )
    alias.set("columns", None)
    alias.set("this", exp.to_identifier(derived.alias.removeprefix(ADDED)))


def with_names(guard: exp.Expr, block: Block, kept: Mapping[str, str]) -> exp.Expr:
    """Copy a guard, names of calls in the place of their answers, and of columns that are kept."""
    calls = {site.column: _name_of(site) for site in block.sites}

    def name(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.table and node.name in kept:
            return exp.column(exp.to_identifier(kept[node.name]))
        if isinstance(node, exp.Column) and node.name in calls:
            return raw(calls[node.name])
        return node

    return guard.copy().transform(name)


def _name_of(site: Site) -> str:
    return f"{site.call.function.upper()}#{site.column.removeprefix('__llm_')}"


def names_read(select: exp.Select) -> dict[str, str]:
    """Return names for the numbered columns that a SELECT reads of its FROM."""
    from_ = select.args.get("from_")
    if from_ is None or not isinstance(from_.this, exp.Subquery):
        return {}
    read = from_.copy()
    select = exp.Select(expressions=[each.copy() for each in select.expressions], from_=read)
    _without_row_number(read.this)
    return _names_of(read.this) if isinstance(read.this, exp.Subquery) else {}


def _names_of(derived: exp.Subquery) -> dict[str, str]:
    """Names for the columns of a derived table that a rule has numbered; none of another one."""
    alias, outer, inner = derived.args.get("alias"), derived.parent_select, derived.this
    if alias is None or outer is None or not isinstance(inner, exp.Select):
        return {}
    numbers = [column.name for column in alias.columns]
    if not derived.alias.startswith(ADDED) or not all(NUMBERED.fullmatch(n) for n in numbers):
        return {}
    return _names(outer, inner, numbers)


def _names(outer: exp.Select, inner: exp.Select, numbers: Sequence[str]) -> dict[str, str]:
    """A name for each numbered column: what the outer SELECT or the inner one calls it."""
    names: dict[str, str] = {}
    for item in outer.expressions:
        if isinstance(item, exp.Alias) and isinstance(item.this, exp.Column):
            names.setdefault(item.this.name, item.alias)
    starred = any(item.is_star for item in inner.expressions)
    for number, item in zip(numbers, [] if starred else inner.expressions, strict=False):
        name = item.alias or (item.name if isinstance(item, exp.Column) else "")
        if name and name not in names.values():
            names.setdefault(number, name)
    return {number: names.get(number, number) for number in numbers}


def _without_wrapper(derived: exp.Subquery) -> None:
    """(SELECT * FROM x) AS y is x AS y."""
    select = derived.this
    if not isinstance(select, exp.Select) or not isinstance(derived.parent, exp.From | exp.Join):
        return
    source = _only_source(select)
    starred = [item for item in select.expressions if item.is_star]
    if not isinstance(source, exp.Table) or any(any(item.args.values()) for item in starred):
        return
    if not starred and (source.name != KEPT or any(item.alias for item in select.expressions)):
        return
    if starred and len(select.expressions) > 1:
        return
    alias = derived.args.get("alias")
    replacement = source.copy()
    if alias is not None and not alias.columns and alias.name not in ("", "rows", source.name):
        replacement.set("alias", alias.copy())
    derived.replace(replacement)


def _only_source(select: exp.Select) -> exp.Table | exp.Subquery | None:
    """The one table that a SELECT reads all rows of, if that is all it does."""
    used = {name for name, value in select.args.items() if value}
    source = select.args["from_"].this if used == {"from_", "expressions"} else None
    return source if isinstance(source, exp.Table | exp.Subquery) else None
