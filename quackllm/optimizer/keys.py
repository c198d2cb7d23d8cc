"""The values that the rest of a FROM has for an equality: what a semijoin reduces by."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.scope import after_grouping, source_parts, visible_ctes
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import column, conjunction, conjuncts, has_calls

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
"""Types whose values are equal whichever of them they are compared in."""

CUTTING = (exp.Limit, exp.Offset, exp.Fetch, exp.TableSample)


CHOOSING = ("max", "min", "any_value", "arbitrary", "first", "last")
"""Aggregates whose value is that of one of the rows, or NULL."""

DEPENDENT = (
    "group",
    "having",
    "qualify",
    "distinct",
    "limit",
    "offset",
    "windows",
    "sample",
    "order",
    "with_",
)
"""Clauses of a query whose rows depend on one another, or that is not looked into."""


class Equalities:
    """The free conditions of a block that every joined row fulfils, and what they equate."""

    def __init__(self, select: exp.Select, catalog: Catalog) -> None:
        self.select = select
        self.sources = Sources(select, catalog)
        self._catalog = catalog
        self._trees = [self._without_calls(tree) for tree in self.sources.trees]

    @cached_property
    def _conditions(self) -> list[tuple[exp.Expr, frozenset[int] | None]]:
        """The conditions and the sources that they read: for CTEs, DuckDB has to be asked."""
        return [(part, self._reads(part)) for part in self.certain()]

    def certain(self) -> Iterator[exp.Expr]:
        """WHERE, and ON and USING of inner joins."""
        where = self.select.args.get("where")
        yield from conjuncts(where.this if where else None)
        for position, join in enumerate(self.select.args.get("joins", [])):
            if restricts(join):
                yield from self.on(position)

    def on(self, position: int) -> Iterator[exp.Expr]:
        """The conditions of a join; USING as equalities."""
        join = self.select.args["joins"][position]
        yield from conjuncts(join.args.get("on"))
        for name in join.args.get("using") or ():
            left = self.sources.of(exp.column(name.name), position + 1)
            right = self.sources.trees[position + 1].alias_or_name
            if left is not None and right:
                known = self.sources.trees[left].alias_or_name
                yield exp.EQ(this=column(name.name, known), expression=column(name.name, right))

    def _reads(self, part: exp.Expr) -> frozenset[int] | None:
        return None if has_calls(part) else self.sources.all_of(part)

    def key_of(self, part: exp.Expr, source: int) -> tuple[exp.Expr, exp.Select] | None:
        """An expression over a source, and the values that a condition leaves it.

        The condition is an equality with other sources, or IN (SELECT ...) without calls,
        such as this makes of an equality further out.
        """
        if has_calls(part):
            return None
        if isinstance(part, exp.In) and isinstance(part.args.get("query"), exp.Subquery):
            values = part.args["query"].this
            known = isinstance(values, exp.Select) and self.is_stable(values)
            own = self.sources.all_of(part.this) == frozenset({source})
            return (part.this, values.copy()) if known and own else None
        sides = [part.args["this"], part.args["expression"]] if isinstance(part, exp.EQ) else []
        for key, other in zip(sides, sides[::-1], strict=True):
            if self.sources.all_of(key) == frozenset({source}):
                found = self.values(other, source)
                if found is not None:
                    return key, found
        return None

    def values(self, wanted: exp.Expr, without: int | None) -> exp.Select | None:
        """Select the values of an expression in the rows that all but one source make.

        The rows may be more than those, never fewer. None when they may differ from one
        reading to the next, or cannot be had alone.
        """
        wanted = _of_one_row(wanted)
        start = self.sources.all_of(wanted)
        if not start or without in start or not all(map(self._usable, start)):
            return None
        if after_grouping(wanted, self._catalog):
            return None
        return self._rows(wanted, self._connected(start, without))

    def _rows(self, item: exp.Expr, members: frozenset[int]) -> exp.Select:
        """Select an item from some of the sources, under the free conditions between them."""
        trees = [self._trees[i] for i in sorted(members)]
        query = exp.Select(expressions=[item.copy()]).from_(trees[0].copy())
        for tree in trees[1:]:
            query.append("joins", exp.Join(this=tree.copy(), kind="CROSS"))
        inside = [
            part
            for part, reads in self._conditions
            if reads and reads <= members and not self._reads_answer(part)
        ]
        condition = conjunction([part for part in inside if self.is_stable(part)])
        if condition is not None:
            query.set("where", exp.Where(this=condition))
        return query

    def untied(self, source: int) -> Iterator[exp.Select]:
        """Select the rows of the other sources that no condition ties to one of them.

        One query for each group of sources that conditions tie together. The rows may be
        more than those that are joined, never fewer.
        """
        tied = {i for _, reads in self._conditions if reads and source in reads for i in reads}
        seen = frozenset(tied | {source})
        for other in range(len(self.sources.trees)):
            if other in seen or not self._usable(other):
                continue
            members = self._connected(frozenset({other}), source)
            if not members & seen:
                yield self._rows(exp.Literal.number(1), members)
            seen |= members

    def _reads_answer(self, part: exp.Expr) -> bool:
        """Whether a condition reads a column that was left out of a source with its call."""
        return any(
            column.name.lower() in self._left_out(self.sources.of(column))
            for column in part.find_all(exp.Column)
        )

    def _left_out(self, source: int | None) -> set[str]:
        tree = None if source is None else self.sources.trees[source]
        if source is None or tree is self._trees[source]:
            return set()
        body = tree.this if isinstance(tree, exp.Subquery) else exp.Select()
        return {item.alias_or_name.lower() for item in body.expressions if has_calls(item)}

    def _connected(self, start: frozenset[int], without: int | None) -> frozenset[int]:
        """Sources that conditions tie to those of `start`, one source left out."""
        members = start
        usable = {i for i in range(len(self.sources.trees)) if i != without and self._usable(i)}
        while True:
            tied = [reads for _, reads in self._conditions if reads and reads & members]
            more = members | {i for reads in tied if reads <= usable for i in reads}
            if more == members:
                return members
            members = more

    def _usable(self, source: int) -> bool:
        """Whether a source has a row of its own in every joined row, and can be read alone."""
        joins = self.select.args.get("joins", [])
        if source and not restricts(joins[source - 1]):
            return False
        return self.sources.stands_alone(source) and self.is_stable(self._trees[source])

    def _without_calls(self, tree: exp.Expr) -> exp.Expr:
        """A derived table whose rows are those of the given one or more, if that has calls."""
        body = tree.this if isinstance(tree, exp.Subquery) and has_calls(tree) else None
        more = more_rows(body, self._catalog) if body is not None else None
        if more is None:
            return tree
        return exp.Subquery(this=more, alias=tree.args.get("alias"))

    def spelled_out(self, query: exp.Select, there: exp.Expr) -> exp.Select | None:
        """Write CTEs that are not seen at a place as derived tables, without their calls."""
        copy = query.copy()
        for table in list(copy.find_all(exp.Table)):
            cte = _cte(table.name, self.select)
            if cte is None or table.args.get("db") or cte is _cte(table.name, there):
                continue
            more = more_rows(cte.this, self._catalog)
            if more is None or cte.args["alias"].columns or table.args.get("joins"):
                return None
            name = exp.TableAlias(this=exp.to_identifier(table.alias_or_name, quoted=True))
            table.replace(exp.Subquery(this=more, alias=name))
        return copy if same_names(copy, self.select, there) else None

    def is_stable(self, tree: exp.Expr) -> bool:
        """Whether a tree calls no model and gives the same rows at each reading."""
        if has_calls(tree) or tree.find(*CUTTING) is not None:
            return False
        return not any(
            self._catalog.is_volatile(node.name) for node in tree.find_all(exp.Anonymous)
        )


def _of_one_row(value: exp.Expr) -> exp.Expr:
    """What an aggregate chooses among, if it chooses one of its rows' values."""
    choosing = isinstance(value, exp.Anonymous) and value.name.lower() in CHOOSING
    return value.expressions[0] if choosing and len(value.expressions) == 1 else value


def more_rows(query: exp.Expr, catalog: Catalog) -> exp.Select | None:
    """Copy a query without its calls: all of its rows and perhaps more, of fewer columns."""
    if not isinstance(query, exp.Select) or any(query.args.get(name) for name in DEPENDENT):
        return None
    if any(has_calls(part) for part in source_parts(query)):
        return None
    items = [item for item in query.expressions if not has_calls(item)]
    if not items or any(after_grouping(item, catalog) for item in query.expressions):
        return None
    copy = query.copy()
    copy.set("expressions", [item.copy() for item in items])
    where = query.args.get("where")
    free = [part for part in conjuncts(where.this if where else None) if not has_calls(part)]
    condition = conjunction(free)
    copy.set("where", None if condition is None else exp.Where(this=condition))
    return copy


def restricts(join: exp.Join) -> bool:
    """Whether every joined row fulfils the condition of a join."""
    kind = (join.args.get("kind") or "").upper()
    return not join.side and not join.method and kind in ("", "INNER", "CROSS", "SEMI")


def comparable(left: exp.Query, right: exp.Query, catalog: Catalog) -> bool:
    """Whether `=` and IN compare the single columns of two queries alike."""
    types = [catalog.columns(query) for query in (left, right)]
    if None in types:
        return False
    [own, other] = [found[0][1] for found in types if found]
    return own == other or (own in INTEGERS and other in INTEGERS)


def same_names(tree: exp.Expr, here: exp.Expr, there: exp.Expr) -> bool:
    """Whether the tables that a tree names at one place are the same at another place."""
    return all(
        _cte(table.name, here) is _cte(table.name, there)
        for table in tree.find_all(exp.Table)
        if not table.args.get("db")
    )


def _cte(name: str, place: exp.Expr) -> exp.Expr | None:
    """The CTE that a name means at a place."""
    for _, visible in visible_ctes(place):
        for cte in reversed(visible):
            if cte.alias.lower() == name.lower():
                return cte
    return None


def as_condition(key: exp.Expr, values: exp.Select) -> exp.Expr:
    """Write that a key is one of the values."""
    whole = isinstance(key, exp.Column)
    left = key.copy() if whole else exp.paren(key.copy(), copy=False)
    return exp.In(this=left, query=exp.Subquery(this=values))
