"""Views and macros that call a model, written out in the statement that uses them.

DuckDB does so itself when it binds a statement; here it has to be done before, since
calls can only be staged where they can be seen. A definition is put where its name
stood: a view's as a derived table, a macro's as an expression or a derived table. Names
in a view's body mean what they mean to DuckDB there: no CTE of the statement around it,
and the schema of the view first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import duckdb
from sqlglot import exp

from quackllm.engine.binder import name_items
from quackllm.engine.macros import Macro, list_macros, substituted
from quackllm.engine.namespace import Entry, Namespace, Place
from quackllm.engine.stored import StoredNames
from quackllm.optimizer.naive import FUNCTION
from quackllm.optimizer.scope import names_cte
from quackllm.optimizer.sql import own_nodes

Read = Callable[[str], exp.Expr | None]
"""Reads a SELECT; None when sqlglot cannot, or reads something else than DuckDB."""

KEPT = ("sample", "pivots", "joins", "laterals")
"""What may stand beside a name in FROM and stays there."""

BY_TEXT = frozenset({"query", "query_table"})
"""Functions that read what a text names, which is not written out."""

DEEPEST = 32
"""Views over views over ... that are followed."""


class _Unreadable(Exception):
    """A definition that cannot be written out; the message says why."""


class Expansion:
    """Writes definitions out in the trees of one statement.

    reasons: why definitions that call a model were left, one each.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        names: StoredNames,
        read: Read,
        functions: frozenset[str] = frozenset({FUNCTION}),
    ) -> None:
        """Make one that writes out what uses one of some functions; names in lower case."""
        self._functions = functions
        self.reasons: list[str] = []
        self._connection = connection
        self._names = names
        self._read = read

    @cached_property
    def _namespace(self) -> Namespace:
        return Namespace(self._connection)

    @cached_property
    def _macros(self) -> dict[str, list[Macro]]:
        return list_macros(self._connection)

    def reads(self, tree: exp.Expr) -> bool:
        """Whether a statement names a view or a macro that may call a model."""
        tables = (self._view(table, None) for table in tree.find_all(exp.Table))
        return any(tables) or any(
            node.name in self._names or node.name.lower() in BY_TEXT
            for node in tree.find_all(exp.Anonymous)
        )

    def expanded(self, root: exp.Expr) -> exp.Expr | None:
        """Return the tree with the definitions that call a model; None if it has none."""
        tree = exp.Paren(this=root.copy())
        changed = self._expand(tree, None, frozenset(), 0)
        result: exp.Expr = tree.this.pop()
        return result if changed else None

    def _expand(
        self, tree: exp.Expr, within: Place | None, hidden: frozenset[str], depth: int
    ) -> bool:
        """Write out what a tree names, in place.

        within: the place of the view whose body the tree is. hidden: names of CTEs that
        are visible around the tree and not meant in it.
        """
        inner = hidden | {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
        changed = False
        for table in list(tree.find_all(exp.Table)):
            try:
                changed |= self._expand_table(tree, table, within, inner, depth)
            except _Unreadable as reason:
                self.reasons.append(str(reason))
        calls = [node for node in tree.find_all(exp.Anonymous) if node.name in self._names]
        if calls:
            name_items(tree, self._names.__contains__)
            calls = [node for node in tree.find_all(exp.Anonymous) if node.name in self._names]
        for node in reversed(calls):  # breadth first: calls among arguments come last
            try:
                changed |= self._expand_call(node, within, inner, depth)
            except _Unreadable as reason:
                self.reasons.append(str(reason))
        return changed

    # Views

    def _view(self, table: exp.Table, within: Place | None) -> Entry | None:
        """The view that a table's name means, if it may call a model."""
        if not isinstance(table.this, exp.Identifier) or table.name not in self._names:
            return None
        if names_cte(table):
            return None
        entry = self._namespace.find(_parts(table), within)
        if entry is None or entry.sql is None:
            return None
        return entry if not entry.query or self._may_call(entry.query) else None

    def _expand_table(
        self,
        tree: exp.Expr,
        table: exp.Table,
        within: Place | None,
        hidden: frozenset[str],
        depth: int,
    ) -> bool:
        if isinstance(table.this, exp.Anonymous):
            return self._expand_table_macro(table, within, hidden, depth)
        entry = self._view(table, within)
        if entry is None:
            return False
        body = self._body(entry, hidden, depth)
        if body is None:
            return False
        names = entry.columns
        alias = table.args.get("alias")
        given = list(alias.columns) if alias is not None else []
        columns = [*given, *(exp.to_identifier(name, quoted=True) for name in names[len(given) :])]
        if alias is None or alias.this is None:
            _drop_qualifiers(tree, table, entry)
        _replace(table, body, table.this, _named_inside(body, columns))
        return True

    def _body(self, entry: Entry, hidden: frozenset[str], depth: int) -> exp.Expr | None:
        """The query of a view, its own names resolved; None when no model is called in it."""
        if not entry.query:
            raise _Unreadable(f"DuckDB has no text of the view {entry.name}")
        if depth >= DEEPEST:
            raise _Unreadable(f"{entry.name} stands on more than {DEEPEST} views")
        body = self._read(entry.query)
        if body is None:
            raise _Unreadable(f"sqlglot and DuckDB's parser read the view {entry.name} differently")
        holder = exp.Paren(this=body)
        self._expand(holder, entry.place, hidden, depth + 1)
        if not self._calls(holder):
            return None
        self._resolve(holder, entry, hidden)
        result: exp.Expr = holder.this.pop()
        return result

    def _resolve(self, body: exp.Expr, view: Entry, hidden: frozenset[str]) -> None:
        """Let names of a view's body mean in the statement what they mean in the view."""
        for table in body.find_all(exp.Table):
            if not isinstance(table.this, exp.Identifier) or names_cte(table):
                continue
            parts = _parts(table)
            captured = len(parts) == 1 and table.name.lower() in hidden
            found = self._namespace.find(parts, view.place)
            if found is None and captured:
                raise _Unreadable(f"{table.name} in the view {view.name} is not a table")
            if found is not None and (captured or self._namespace.find(parts) != found):
                table.set("catalog", exp.to_identifier(found.database, quoted=True))
                table.set("db", exp.to_identifier(found.schema, quoted=True))
        if self._namespace.is_searched(view.place):
            return
        for node in body.find_all(exp.Anonymous):
            if any(macro.place == view.place for macro in self._macros.get(node.name.lower(), [])):
                raise _Unreadable(f"the view {view.name} uses the macro {node.name} of its schema")

    # Macros

    def _expand_call(
        self, node: exp.Anonymous, within: Place | None, hidden: frozenset[str], depth: int
    ) -> bool:
        place, top = _qualified(node)
        body = self._macro_body(node, place, False, within, hidden, depth)
        if body is None:
            return False
        top.replace(exp.paren(body, copy=False))
        return True

    def _expand_table_macro(
        self, table: exp.Table, within: Place | None, hidden: frozenset[str], depth: int
    ) -> bool:
        if table.this.name not in self._names:
            return False
        place = [part for part in (table.catalog, table.db) if part]
        body = self._macro_body(table.this, place, True, within, hidden, depth)
        if body is None:
            return False
        alias = table.args.get("alias")
        columns = list(alias.columns) if alias is not None else []
        _replace(table, body, exp.to_identifier(table.this.name), columns)
        return True

    def _macro_body(
        self,
        node: exp.Anonymous,
        place: list[str],
        is_table: bool,
        within: Place | None,
        hidden: frozenset[str],
        depth: int,
    ) -> exp.Expr | None:
        """A macro's body with the arguments of a call; None when no model is called in it."""
        overloads = [
            macro
            for macro in self._macros.get(node.name.lower(), [])
            if macro.is_table == is_table and self._namespace.means(place, macro.place, within)
        ]
        if not any(m.definition and self._may_call(m.definition) for m in overloads):
            return None
        if len({macro.place for macro in overloads}) > 1:
            raise _Unreadable(f"there are macros {node.name} in several schemas")
        fitting = [
            (m, bound) for m in overloads if (bound := m.bound(node.expressions)) is not None
        ]
        if len(fitting) != 1 or depth >= DEEPEST:
            raise _Unreadable(f"the macro {node.name} is not called with all its parameters")
        [(macro, values)] = fitting
        text = macro.definition if is_table else f"SELECT {macro.definition}"
        read = self._read(text)
        if read is None:
            raise _Unreadable(
                f"sqlglot and DuckDB's parser read the macro {macro.name} differently"
            )
        body = read if is_table else read.expressions[0].unalias()
        if not is_table and body.find(exp.Query) is not None:
            values = {name: _of_its_source(value, node) for name, value in values.items()}
        holder = exp.Paren(this=body.copy())
        substituted(holder, values)
        self._expand(holder, within, hidden, depth + 1)
        result: exp.Expr = holder.this
        return result.pop() if self._calls(holder) else None

    def _may_call(self, definition: str) -> bool:
        lowered = definition.lower()
        used = any(function in lowered for function in self._functions)
        return used or self._names.mentioned_in(definition)

    def _calls(self, tree: exp.Expr) -> bool:
        return any(node.name.lower() in self._functions for node in tree.find_all(exp.Anonymous))


def _parts(table: exp.Table) -> list[str]:
    return [part for part in (table.catalog, table.db, table.name) if part]


def _replace(
    table: exp.Table, body: exp.Expr, name: exp.Identifier, columns: Iterable[exp.Expr]
) -> None:
    """Put a derived table in the place of a name in FROM."""
    known = {"this", "db", "catalog", "alias", *KEPT}
    if any(value for key, value in table.args.items() if key not in known):
        raise _Unreadable(f"{table.name} is not read as it is now")
    alias = table.args.get("alias")
    given = alias.this if alias is not None and alias.this is not None else name
    derived = exp.Subquery(
        this=body, alias=exp.TableAlias(this=given.copy(), columns=[c.copy() for c in columns])
    )
    for key in KEPT:
        derived.set(key, table.args.get(key))
    table.replace(derived)


def _of_its_source(value: exp.Expr, call: exp.Anonymous) -> exp.Expr:
    """Name the table of the columns of an argument of a macro, as DuckDB does before it puts
    it into the macro's body: the sources of a query there may have a column of that name."""
    copy = value.copy()
    columns = [node for node in own_nodes(copy) if isinstance(node, exp.Column) and not node.table]
    if not columns:
        return copy
    select = call.find_ancestor(exp.Select)
    from_ = None if select is None else select.args.get("from_")
    source = "" if from_ is None else from_.this.alias_or_name
    joined = select is not None and (select.args.get("joins") or select.args.get("laterals"))
    if not source or joined or copy.find(exp.Lambda) is not None:
        raise _Unreadable(f"the macro {call.name} holds a query, which may have columns of its own")
    for node in columns:
        node.set("table", exp.to_identifier(source, quoted=True))
    return copy


def _named_inside(body: exp.Expr, columns: list[exp.Expr]) -> list[exp.Expr]:
    """Name the items of a query where that is all that column names do; return the rest.

    Rules can look into a derived table whose columns have the names of its items.
    """
    items = body.expressions if isinstance(body, exp.Select) else []
    if not columns or len(items) != len(columns):
        return columns
    written = {node.name.lower() for node in body.find_all(exp.Column) if not node.table}
    for item in items:
        used = isinstance(item, exp.Alias) and item.alias.lower() in written
        if used or item.is_star:
            return columns
    for item, column in zip(items, columns, strict=True):
        item.replace(exp.Alias(this=item.unalias().copy(), alias=column.copy()))
    return []


def _drop_qualifiers(tree: exp.Expr, table: exp.Table, entry: Entry) -> None:
    """From main.v.a to v.a: a derived table is in no schema."""
    for node in tree.find_all(exp.Column):
        if node.table.lower() == table.name.lower() and node.db.lower() == entry.schema.lower():
            node.set("db", None)
            node.set("catalog", None)


def _qualified(node: exp.Anonymous) -> tuple[list[str], exp.Expr]:
    """The database and schema before a function's name, and the node that holds them."""
    parent = node.parent
    if not isinstance(parent, exp.Dot) or parent.expression is not node:
        return [], node
    return [part.name for part in parent.this.find_all(exp.Identifier)], parent
