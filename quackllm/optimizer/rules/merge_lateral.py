"""A lateral query without FROM is a list of expressions over the row beside it.

It has one row for each of theirs, so what reads its columns may hold the expressions. Calls in
it are then asked where they are read: after WHERE, below LIMIT, and not at all where nobody
reads them. DuckDB turns such a query into a projection, and places it likewise.

Before: SELECT s.why FROM x, LATERAL (SELECT LLM('...', x.body) AS why) AS s WHERE
        LLM_FILTER('...', x.title)
After:  SELECT LLM('...', x.body) AS why FROM x WHERE LLM_FILTER('...', x.title)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import (
    after_grouping,
    clause_parts,
    groups_by_items,
    has_grouping_sets,
    in_scope,
    rows_of,
    selects,
)
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.split import is_columns, is_star
from quackllm.optimizer.sql import column, has_calls, held, own_nodes, released

BY_POSITION = ("group", "order", "distinct")
"""Clauses in which a constant is a position, or nothing at all."""

ALONE = (exp.Group, exp.Ordered, exp.Alias, exp.Paren)
"""Places where no operator stands beside a column."""

MOST_NODES = 500
"""Nodes of a tree that copies of expressions may add: laterals that read one another twice
would otherwise double with each of them."""


def merge_lateral(plan: Plan, catalog: Catalog) -> Plan:
    """Merge lateral queries with calls, the last of a FROM first: it may read those before."""
    if not any(list(_laterals(select)) for select in plan.selects):
        return plan
    root = plan.root.copy()
    changed = False
    for select in selects(root):
        for position in reversed(list(_laterals(select))):
            changed |= _merge(select, position, catalog)
    return replace(plan, root=root) if changed else plan


def _laterals(select: exp.Select) -> Iterator[int]:
    """Yield the positions of the joins that only add columns, with calls, to each row."""
    joins = select.args.get("joins", [])
    if any(join.method or join.args.get("using") for join in joins):
        return
    if has_grouping_sets(select) or select.args.get("sample"):
        return
    for position, join in enumerate(joins):
        later = joins[position + 1 :]
        if any((other.side or "").upper() in ("RIGHT", "FULL") for other in later):
            continue  # its columns are NULL in rows that those add
        body = _body(join.this)
        if body is not None and _adds_columns(join) and has_calls(body):
            yield position


def _body(source: exp.Expr) -> exp.Select | None:
    """The query of a source, if it has a name and nothing but a select list."""
    query = source.this if isinstance(source, exp.Lateral) else source
    body = query.this if isinstance(query, exp.Subquery) else None
    if not isinstance(body, exp.Select) or not source.alias_or_name:
        return None
    if any(value for name, value in body.args.items() if name != "expressions"):
        return None
    plain = {"this", "alias"}
    extra = (value for name, value in query.args.items() if name not in plain)
    return None if any(extra) or source.args.get("outer") else body


def _adds_columns(join: exp.Join) -> bool:
    """Whether each row on the left has the one partner."""
    condition = join.args.get("on")
    kind, side = (join.args.get("kind") or "").upper(), (join.side or "").upper()
    always = condition is None or (isinstance(condition, exp.Boolean) and condition.this)
    return always and kind in ("", "INNER", "CROSS", "OUTER") and side in ("", "LEFT")


def _merge(select: exp.Select, position: int, catalog: Catalog) -> bool:
    values = _values(select, position, catalog)
    if values is None:
        return False
    lateral = _Lateral(select, position, {name.lower(): v for name, v in values.items()}, [*values])
    readers = lateral.readers()
    if readers is None or not all(map(lateral.may_hold_value, readers)):
        return False
    if sum(len(list(lateral.values[node.name.lower()].walk())) for node in readers) > MOST_NODES:
        return False
    items: list[exp.Expr] = []
    for item in select.expressions:
        written = lateral.written(item, catalog)
        if written is None:
            return False
        items.extend(written)
    for node in readers:
        node.replace(_whole(lateral.values[node.name.lower()], node))
    select.set("expressions", items)
    select.set("joins", [j for at, j in enumerate(select.args["joins"]) if at != position])
    return True


def _values(select: exp.Select, position: int, catalog: Catalog) -> dict[str, exp.Expr] | None:
    """What each column of a lateral query is computed by, its own columns with their tables."""
    source = select.args["joins"][position].this
    body = _body(source)
    assert body is not None
    alias = source.args.get("alias")
    given = [column.name for column in alias.columns] if alias is not None else []
    names = [*given, *(item.alias_or_name for item in body.expressions[len(given) :])]
    aliases = {item.alias.lower() for item in body.expressions if item.alias}
    sources = Sources(select, catalog)
    values: dict[str, exp.Expr] = {}
    for name, item in zip(names, body.expressions, strict=False):
        value = sources.qualified(item.unalias(), position + 1)
        if value is None or not _is_scalar(item, catalog) or _names_any(item.unalias(), aliases):
            return None
        values[name] = value
    distinct = {name.lower() for name in values}
    return values if "" not in distinct and len(distinct) == len(body.expressions) else None


def _is_scalar(item: exp.Expr, catalog: Catalog) -> bool:
    """Whether an item is one value of one row, the same at each evaluation."""
    functions = [node.name.lower() for node in item.find_all(exp.Anonymous)]
    if "unnest" in functions or any(map(is_columns, item.walk())):
        return False
    return not after_grouping(item, catalog) and not any(map(catalog.is_volatile, functions))


def _names_any(item: exp.Expr, names: set[str]) -> bool:
    """Whether a column may mean another item of the same select list."""
    return any(not node.table and node.name.lower() in names for node in item.find_all(exp.Column))


def _whole(value: exp.Expr, place: exp.Expr) -> exp.Expr:
    """Copy a value, in parentheses where its operators could join those around it."""
    alone = isinstance(value, exp.Column) or isinstance(place.parent, ALONE)
    return value.copy() if alone else exp.paren(value.copy(), copy=False)


@dataclass(frozen=True)
class _Lateral:
    """A lateral query, the SELECT in whose FROM it stands, and what it computes.

    position: of its join. values: what its columns are computed by, by name in lower case.
    names: of its columns, as they are written.
    """

    select: exp.Select
    position: int
    values: Mapping[str, exp.Expr]
    names: Sequence[str]

    @property
    def _source(self) -> exp.Expr:
        source: exp.Expr = self.select.args["joins"][self.position].this
        return source

    @property
    def _name(self) -> str:
        return str(self._source.alias_or_name).lower()

    def _columns_in(self, tree: exp.Expr) -> list[exp.Column]:
        """The columns of a tree that are, or may be, of the lateral query; not its stars."""
        return [
            node
            for node in tree.find_all(exp.Column)
            if not self._is_star_item(node)
            and (
                node.table.lower() == self._name
                or (not node.table and node.name.lower() in (*self.values, self._name))
            )
        ]

    def _is_star_item(self, node: exp.Expr) -> bool:
        return is_star(node) and any(node is item for item in self.select.expressions)

    def readers(self) -> list[exp.Column] | None:
        """The columns that read it; None when it may be read in another way."""
        sources = self.select.find_all(exp.Table, exp.Subquery, exp.Lateral)
        if sum(source.alias_or_name.lower() == self._name for source in sources) != 1:
            return None
        for _, part in clause_parts(self.select):
            stars = (node for node in own_nodes(part) if isinstance(node, exp.Star))
            if not all(map(self._is_known, stars)):
                return None
        inside = {id(node) for node in self._source.walk()}
        found = [node for node in self._columns_in(self.select) if id(node) not in inside]
        return found if all(node.name.lower() in self.values for node in found) else None

    def _is_known(self, star: exp.Star) -> bool:
        """Whether a star counts rows, or is an item that can be written out."""
        holder = star.parent if isinstance(star.parent, exp.Column) else star
        parent = holder.parent
        if isinstance(parent, exp.Anonymous) and parent.name.lower() == "count":
            return True
        if groups_by_items(self.select) and not all(
            v.find(exp.Column) for v in self.values.values()
        ):
            return False
        return self._is_star_item(holder) and not star.args.get("rename")

    def may_hold_value(self, reader: exp.Column) -> bool:
        """Whether an expression may stand in the place of a column."""
        aliases = {item.alias.lower() for item in self.select.expressions if item.alias}
        if not reader.table and reader.name.lower() in aliases:
            return False
        if reader.find_ancestor(exp.Lambda, exp.Comprehension) is not None:
            return False
        constant = self.values[reader.name.lower()].find(exp.Column) is None
        keys = (*BY_POSITION, "expressions") if groups_by_items(self.select) else BY_POSITION
        return any(
            node is reader and not (constant and clause in keys)
            for clause, part in clause_parts(self.select)
            for node in own_nodes(part)
        )  # else in a nested query, or in another join

    def written(self, item: exp.Expr, catalog: Catalog) -> list[exp.Expr] | None:
        """Write out an item, under its name; None where that cannot be known."""
        table = item.table.lower() if isinstance(item, exp.Column) else self._name
        if is_star(item) and table == self._name:
            return self._of_star(item, catalog)
        if not self._columns_in(item):
            return [item.copy()]
        name = item.alias_or_name or self._name_of(item, catalog)
        if not name:
            return None
        holder = held(item.unalias().copy())
        for node in self._columns_in(holder):
            node.replace(_whole(self.values[node.name.lower()], node))
        return [exp.Alias(this=released(holder), alias=exp.to_identifier(name, quoted=True))]

    def _name_of(self, item: exp.Expr, catalog: Catalog) -> str:
        alone = in_scope(self.select, rows_of(self.select, [item.copy()]))
        columns = catalog.columns(alone) or ()
        return columns[0][0] if len(columns) == 1 else ""

    def _of_star(self, item: exp.Expr, catalog: Catalog) -> list[exp.Expr] | None:
        """Write out * or the star of the lateral query; None where that cannot be known."""
        own: list[exp.Expr] = [
            exp.Alias(this=value.copy(), alias=exp.to_identifier(name, quoted=True))
            for name, value in zip(self.names, self.values.values(), strict=True)
        ]
        star = item if isinstance(item, exp.Star) else item.this
        sources = self._sources() if star is item else [self._source]
        tables = [source.alias_or_name for source in sources]
        if "" in tables or len({table.lower() for table in tables}) < len(tables):
            return None
        if not any(star.args.values()):
            written = [own if s is self._source else [_star_of(s.alias_or_name)] for s in sources]
            return [part for parts in written for part in parts]
        columns = [own if s is self._source else self._columns_of(s, catalog) for s in sources]
        return self._changed([part for parts in columns for part in parts], star)

    def _sources(self) -> list[exp.Expr]:
        """The sources whose columns * means."""
        from_ = self.select.args.get("from_")
        joined = [
            join.this
            for join in self.select.args["joins"]
            if (join.args.get("kind") or "").upper() not in ("SEMI", "ANTI")
        ]
        return joined if from_ is None else [from_.this, *joined]

    def _columns_of(self, source: exp.Expr, catalog: Catalog) -> list[exp.Expr]:
        star = rows_of(self.select, [_star_of(source.alias_or_name)])
        columns = catalog.columns(in_scope(self.select, star)) or ()
        return [column(name, source.alias_or_name) for name, _ in columns]

    def _changed(self, columns: Sequence[exp.Expr], star: exp.Expr) -> list[exp.Expr]:
        """Leave out the columns of EXCLUDE, and write those of REPLACE anew."""
        left_out = {part.name.lower() for part in star.args.get("except_") or ()}
        anew = {part.alias.lower(): part for part in star.args.get("replace") or ()}
        found: list[exp.Expr] = []
        for part in columns:
            name = part.alias_or_name.lower()
            if name in left_out:
                continue
            holder = held(anew.get(name, part).copy())
            for node in self._columns_in(holder):
                node.replace(_whole(self.values[node.name.lower()], node))
            found.append(released(holder))
        return found


def _star_of(table: str) -> exp.Column:
    return exp.Column(this=exp.Star(), table=exp.to_identifier(table, quoted=True))
