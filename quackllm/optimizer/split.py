"""Cutting a SELECT in two: the rows it makes, and what is computed from them.

The inner SELECT carries the parts that have to be evaluated where they stand (columns,
aggregates, stars); the outer one computes the rest over a derived table whose columns
are numbered, so that no name has to be resolved by us.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import clause_parts, in_scope, rows_of, selects
from quackllm.optimizer.sql import column, has_calls, held, own_nodes, released

Leaf = Callable[[exp.Expr], bool]

CARRIED = "__llm_c"
"""Begins the names of the columns that the inner SELECT carries, their number behind it. ORDER BY
of the outer one takes a name for that of an item before a column, so no item may have one."""

ALIASES_USED_IN = ("where", "having", "qualify", "expressions", "order")
"""Clauses in which DuckDB lets an expression name a select alias."""

CONSTANT = (exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Neg, exp.Cast, exp.DataType)
"""Parts of expressions that have one value for all rows."""


def split_each(
    plan: Plan,
    concerns: Callable[[exp.Select], bool],
    split: Callable[[exp.Select, int], exp.Select | None],
) -> Plan:
    """Replace each SELECT of a plan that is to be cut in two by its outer half.

    concerns: whether a SELECT is to be looked at; a plan in which none is stays as it is,
        uncopied.
    split: makes the outer half, or None, of such a SELECT; given how many there were before.
    """
    if not any(map(concerns, plan.selects)):
        return plan
    root = held(plan.root.copy())
    done = 0
    for select in selects(root):
        outer = split(select, done) if concerns(select) else None
        if outer is not None:
            select.replace(outer)
            done += 1
    return replace(plan, root=released(root)) if done else plan


def names_of(select: exp.Select, catalog: Catalog) -> list[str] | None:
    """Names of a block's output columns, None when it does not bind alone."""
    columns = catalog.columns(in_scope(select, select.copy()))
    return None if columns is None else [name for name, _ in columns]


def names_where_cuttable(select: exp.Select, catalog: Catalog) -> list[str] | None:
    """Names of a block's output columns, None when it cannot be cut in two.

    The two halves have other select items, so no alias may stand for an expression any more:
    `inline_aliases` writes out those that it can.
    """
    if open_aliases(select, catalog) or nested_aliases(select, catalog):
        return None
    return names_of(select, catalog)


def open_aliases(select: exp.Select, catalog: Catalog) -> list[exp.Column]:
    """Uses of select aliases in a block's own clauses that no column of FROM shadows."""
    return _not_of_from(alias_uses(select), select, catalog)


def nested_aliases(select: exp.Select, catalog: Catalog) -> list[exp.Column]:
    """Columns of queries nested in a block's clauses that may mean its select aliases.

    Those are never written out: what they are computed of may have another meaning there.
    """
    aliases = aliased_items(select)
    nested = (query for _, part in clause_parts(select) for query in part.find_all(exp.Query))
    named = [
        node
        for query in (nested if aliases else ())
        for node in query.find_all(exp.Column)
        if not node.table and node.name.lower() in aliases
    ]
    return _not_of_from(named, select, catalog)


def _not_of_from(uses: list[exp.Column], select: exp.Select, catalog: Catalog) -> list[exp.Column]:
    if not uses:
        return []
    rows = in_scope(select, rows_of(select, [exp.Star()]))
    columns = {name.lower() for name, _ in catalog.columns(rows) or ()}
    from_ = select.args.get("from_")
    sources = [part.this for part in (from_, *select.args.get("joins", ())) if part is not None]
    tables = {source.alias_or_name.lower() for source in sources}
    return [
        use
        for use in uses
        if use.name.lower() not in columns
        and not (use.name.lower() in tables and _may_be_row(use, select))
    ]


def _may_be_row(use: exp.Expr, select: exp.Select) -> bool:
    """Whether the name of a table means its row where it stands; else an alias goes first."""
    node = use
    while node.parent is not None and node.parent is not select:
        node = node.parent
    return node.arg_key not in ("order", "having")


def aliased_items(select: exp.Select) -> dict[str, exp.Expr]:
    """The select items that have an alias, by its name in lower case."""
    items = (item for item in select.expressions if isinstance(item, exp.Alias))
    return {item.alias.lower(): item.this for item in items}


def alias_uses(select: exp.Select) -> list[exp.Column]:
    """Columns of a block that have the name of an alias."""
    aliases = aliased_items(select)
    if not aliases:
        return []
    found: list[exp.Column] = []
    for clause in ALIASES_USED_IN:
        value = select.args.get(clause)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                found.extend(
                    node
                    for node in own_nodes(part)
                    if isinstance(node, exp.Column) and _names_any(node, aliases)
                )
    return found


def _names_any(node: exp.Column, aliases: Collection[str]) -> bool:
    """Whether a column has no table and the name of an alias; not a key of ORDER BY, where
    DuckDB means the select item itself."""
    if isinstance(node.this, exp.Star) or isinstance(node.parent, exp.Ordered):
        return False
    return not node.table and node.name.lower() in aliases


def is_star(node: exp.Expr) -> bool:
    """Whether a select item stands for several columns."""
    return isinstance(node, exp.Star) or (
        isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
    )


def is_columns(node: exp.Expr) -> bool:
    """Whether a node is COLUMNS(...), which stands for several columns wherever it stands."""
    return isinstance(node, exp.Columns) or (
        isinstance(node, exp.Anonymous) and node.name.lower() == "columns"
    )


def order_keys(select: exp.Select, *, calls: bool = False) -> list[exp.Ordered] | None:
    """The keys of ORDER BY as expressions over FROM: positions and aliases resolved.

    None when that cannot be done, and unless `calls` when a key calls a model. Keys that are
    constants are left out: they sort nothing, and a number would be a position.
    """
    order = select.args.get("order")
    if order is None:
        return []
    items = [item.unalias() for item in select.expressions]
    aliases = {item.alias.lower(): item.this for item in select.expressions if item.alias}
    keys = []
    for key in order.expressions:
        node = key.this
        if isinstance(node, exp.Literal) and node.is_int:
            at = int(node.this)
            if not 0 < at <= len(items) or any(map(is_star, items[:at])):
                return None  # a column of a star
            node = items[at - 1]
        elif isinstance(node, exp.Column) and not node.table:
            node = aliases.get(node.name.lower(), node)
        is_all = isinstance(node, exp.Column | exp.Var) and node.name.lower() == "all"
        if is_all or isinstance(node, exp.Star) or (has_calls(node) and not calls):
            return None
        if all(isinstance(part, CONSTANT) for part in node.walk()):
            continue
        keys.append(exp.Ordered(**{**key.copy().args, "this": node.copy()}))
    return keys


class Split:
    """Collects what the inner SELECT carries; `alias` names the derived table."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._carried: list[exp.Expr] = []
        self._first: list[int] = []
        self._width = 0

    def carry(self, node: exp.Expr, width: int = 1) -> exp.Column:
        """Carry an expression of `width` columns; return a reference to the first."""
        for known, first in zip(self._carried, self._first, strict=True):
            if known == node:
                return self._reference(first)
        self._carried.append(node.copy())
        self._first.append(self._width)
        self._width += width
        return self._reference(self._first[-1])

    def rewrite(self, tree: exp.Expr, leaf: Leaf) -> exp.Expr:
        """Copy a tree, each topmost leaf carried and replaced by its column."""
        holder = held(tree.copy())
        self._replace(holder.this, leaf, _bound_names(tree))
        return released(holder)

    def _replace(self, node: exp.Expr, leaf: Leaf, bound: set[str]) -> None:
        if isinstance(node, exp.Column) and node.parts[0].name in bound:
            return
        if leaf(node):
            node.replace(self.carry(node))
            return
        for child in list(node.iter_expressions()):
            self._replace(child, leaf, bound)

    def items(
        self,
        select: exp.Select,
        names: list[str],
        catalog: Catalog,
        leaf: Leaf | None = None,
        *,
        queries_stay: bool = False,
    ) -> list[exp.Expr] | None:
        """Write the outer select list: one item per output column, under its name.

        queries_stay: whether an item with a nested query beside a call is carried whole.
        None when an item cannot be cut (such a one otherwise, a star whose columns cannot be
        counted).
        """
        leaf = leaf or (lambda node: isinstance(node, exp.Column | exp.Window))
        items: list[exp.Expr] = []
        for item in select.expressions:
            value = item.unalias()
            if is_star(value):
                columns = catalog.columns(in_scope(select, rows_of(select, [value.copy()])))
                if columns is None:
                    return None
                first = self.carry(value, len(columns))
                start = int(first.name.removeprefix(CARRIED))
                cells: list[exp.Expr] = [self._reference(start + i) for i in range(len(columns))]
            elif not has_calls(value) or (queries_stay and value.find(exp.Query)):
                cells = [self.carry(value)]
            elif value.find(exp.Query):
                return None
            else:
                cells = [self.rewrite(value, leaf)]
            for cell in cells:
                if len(items) == len(names):
                    return None
                name = exp.to_identifier(names[len(items)], quoted=True)
                items.append(exp.Alias(this=cell, alias=name))
        return items if len(items) == len(names) else None

    def inner(self, select: exp.Select) -> exp.Select:
        """Copy the block with the carried expressions as its select list."""
        inner = select.copy()
        inner.set("expressions", self._carried or [exp.Literal.number(1)])
        return inner

    def derived(self, inner: exp.Select) -> exp.Subquery:
        """Make the derived table of `inner`, its columns numbered."""
        numbers = range(max(self._width, 1))
        columns = [exp.to_identifier(f"{CARRIED}{i}", quoted=True) for i in numbers]
        alias = exp.TableAlias(this=exp.to_identifier(self._alias), columns=columns)
        return exp.Subquery(this=inner, alias=alias)

    def _reference(self, number: int) -> exp.Column:
        return column(f"{CARRIED}{number}")


def _bound_names(tree: exp.Expr) -> set[str]:
    """Names that lambdas and comprehensions of the tree bind."""
    names: set[str] = set()
    for node in tree.find_all(exp.Lambda):
        names.update(parameter.name for parameter in node.expressions)
    for comprehension in tree.find_all(exp.Comprehension):
        names.add(comprehension.args["expression"].name)
    return names


def is_carried(node: exp.Expr) -> bool:
    """Whether the outer half of a cut SELECT reads a node as a column that the inner one has."""
    return isinstance(node, exp.Column | exp.Window)
