"""FROM clauses: tables, subqueries, VALUES, unnested lists, joins of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.fuzz.cases import BOOLEAN, DATE, INTEGER, TEXTS, VARCHAR, Column, Scope, Table
from tests.fuzz.expressions import Expressions
from tests.fuzz.source import Source
from tests.fuzz.table_functions import search_of_rows, table_function

JOINS = (
    "INNER",
    "LEFT",
    "CROSS",
    "COMMA",
    "RIGHT",
    "FULL",
    "SEMI",
    "ANTI",
    "USING",
    "ASOF",
    "LATERAL",
    "LEFT LATERAL",
    "COMMA LATERAL",
    "SEARCH",
)


@dataclass(frozen=True)
class From:
    """What stands behind FROM, and the columns that it gives."""

    sql: str
    columns: tuple[Column, ...]


class Queries(Protocol):
    """What FROM clauses ask of the module that writes queries."""

    def derived(self, depth: int, outer: tuple[Column, ...]) -> tuple[str, tuple[Column, ...]]:
        """A query whose rows are fixed, and its columns."""


class Sources:
    """Writes FROM clauses."""

    def __init__(self, source: Source, tables: Sequence[Table], expressions: Expressions) -> None:
        self._source = source
        self._expressions = expressions
        self.known: list[tuple[str, tuple[Column, ...]]] = [
            (table.name, table.columns) for table in tables
        ]
        self._has_read_large = False
        self._large = {table.name for table in tables if table.more}
        self._small = [table for table in tables if not table.more]
        self._read: dict[str, Table] = {}  # small tables, by the alias that reads them
        self.queries: Queries | None = None

    def known_table(self) -> tuple[str, tuple[Column, ...]]:
        """A table or CTE; a large one a single time, as pairs of its rows are too many."""
        small = [known for known in self.known if known[0] not in self._large]
        name, columns = self._source.pick(small if self._has_read_large and small else self.known)
        self._has_read_large = self._has_read_large or name in self._large
        return name, columns

    def add(self, name: str, columns: tuple[Column, ...], *, first: bool) -> None:
        """Add a CTE; after a large table has been read, it counts as large too."""
        self.known.insert(0 if first else len(self.known), (name, columns))
        if self._has_read_large:
            self._large.add(name)

    def tables(self, depth: int, outer: tuple[Column, ...] = ()) -> From:
        """One to three sources, joined."""
        source = self._source
        current = self._one(depth)
        if source.chance(3) and len(current.columns) > 0:
            unqualified = tuple(Column(column.name, column.type) for column in current.columns)
            return From(current.sql, unqualified)
        joins = source.pick((0, 0, 1, 1, 1, 2)) if depth > 0 else source.pick((0, 0, 1))
        for _ in range(joins):
            current = self._joined(current, source.pick(JOINS), depth - 1, outer)
        return current

    def _one(self, depth: int) -> From:
        """A table, a CTE, a subquery or VALUES, under an alias of its own."""
        source = self._source
        alias = source.name("s")
        if depth > 0 and self.queries is not None and source.chance(4):
            source.use("subquery in FROM")
            sql, columns = self.queries.derived(depth - 1, ())
            return From(f"({sql}) {alias}", tuple(column.of(alias) for column in columns))
        if self._small and source.chance(16):
            text, columns = table_function(source, source.pick(self._small))
            return From(f"{text} {alias}", tuple(column.of(alias) for column in columns))
        if source.chance(12):
            source.use("VALUES in FROM")
            columns = (Column(f"{alias}.a", INTEGER), Column(f"{alias}.v", VARCHAR))
            return From(f"(VALUES (1, 'x'), (2, NULL), (1, 'x')) {alias}(a, v)", columns)
        name, columns = self.known_table()
        for table in self._small:
            if table.name == name:
                self._read[alias] = table
        return From(f"{name} {alias}", tuple(column.of(alias) for column in columns))

    def _joined(self, left: From, kind: str, depth: int, outer: tuple[Column, ...]) -> From:
        self._source.use(f"join: {kind}")
        if kind == "ASOF":
            return self._asof(left, outer)
        if kind.endswith("LATERAL"):
            return self._lateral(left, kind, depth)
        if kind == "SEARCH":
            return self._searched(left)
        right = self._one(depth)
        if kind == "CROSS":
            return From(f"{left.sql} CROSS JOIN {right.sql}", left.columns + right.columns)
        if kind == "COMMA":
            return From(f"{left.sql}, {right.sql}", left.columns + right.columns)
        if kind == "USING":
            return self._using(left, right)
        both = left.columns + right.columns
        condition = self._on(left, right, Scope(both, outer))
        columns = left.columns if kind in ("SEMI", "ANTI") else both
        word = "JOIN" if kind == "INNER" else f"{kind} JOIN"
        return From(f"{left.sql} {word} {right.sql} ON {condition}", columns)

    def _on(self, left: From, right: From, scope: Scope) -> str:
        source = self._source
        parts = self._equality(left, right)
        if left.columns and right.columns and source.chance(6):
            source.use("call on both sides in ON")
            parts = parts if source.chance(2) else []
            parts.append(self._expressions.pairs(Scope(left.columns), Scope(right.columns)))
        elif source.chance(2) or not parts:
            before = source.calls
            parts.append(self._expressions.condition(Scope(scope.local), 1, calls=True))
            if source.calls > before:
                source.use("call in ON")
        if source.chance(8):
            parts.extend(self._equal_classes(left, right))
        return " AND ".join(parts)

    def _equal_classes(self, left: From, right: From) -> list[str]:
        """Compare what a model says of a text of either side."""
        texts = [Scope(side.columns).of_type(VARCHAR) for side in (left, right)]
        if not all(texts):
            return []
        self._source.calls += 2
        self._source.use("equal classes in ON")
        labels = "['x', 'y']"
        one, other = (self._source.pick(some).sql for some in texts)
        return [f"LLM_CLASSIFY({one}, {labels}) = LLM_CLASSIFY({other}, {labels})"]

    def _equality(self, left: From, right: From) -> list[str]:
        pairs = [
            f"{a.sql} = {b.sql}"
            for type_ in (INTEGER, VARCHAR)
            for a in Scope(left.columns).of_type(type_)
            for b in Scope(right.columns).of_type(type_)
        ]
        return [self._source.pick(pairs)] if pairs else []

    def _using(self, left: From, right: From) -> From:
        source = self._source
        names = [column.name for column in left.columns]
        types = {(column.name, column.type) for column in left.columns}
        shared = [
            column.name
            for column in right.columns
            if names.count(column.name) == 1 and (column.name, column.type) in types
        ]
        if not shared:
            return From(f"{left.sql} CROSS JOIN {right.sql}", left.columns + right.columns)
        word = source.pick(("JOIN", "LEFT JOIN", "FULL JOIN", "RIGHT JOIN"))
        using = source.pick(shared)
        merged = next(column for column in left.columns if column.name == using)
        columns = (*left.columns, *right.columns, Column(using, merged.type))
        return From(f"{left.sql} {word} {right.sql} USING ({using})", columns)

    def _asof(self, left: From, outer: tuple[Column, ...]) -> From:
        """The right side has one row per key, so that the nearest one is fixed."""
        source = self._source
        name, columns = self.known_table()
        keys = [column for column in columns if column.type in (INTEGER, DATE)]
        wanted = [column for column in left.columns if column.type in (INTEGER, DATE)]
        key = source.pick(keys) if keys else None
        match = [column for column in wanted if key is not None and column.type == key.type]
        others = [column for column in columns if column.type == VARCHAR]
        if key is None or not match or not others:
            return left
        alias = source.name("s")
        text = (
            f"(SELECT {key.name} AS k, max({others[0].name}) AS v FROM {name} GROUP BY 1) {alias}"
        )
        both = (*left.columns, Column(f"{alias}.k", key.type), Column(f"{alias}.v", VARCHAR))
        word = source.pick(("ASOF JOIN", "ASOF LEFT JOIN"))
        condition = f"{source.pick(match).sql} >= {alias}.k"
        return From(f"{left.sql} {word} {text} ON {condition}", both)

    def _lateral(self, left: From, kind: str, depth: int) -> From:
        source = self._source
        alias = source.name("s")
        lists = Scope(left.columns).of_type(TEXTS)
        if lists and kind == "COMMA LATERAL" and source.chance(2):
            source.use("unnest in FROM")
            text = f"{left.sql}, unnest({source.pick(lists).sql}) {alias}(u)"
            return From(text, (*left.columns, Column(f"{alias}.u", VARCHAR)))
        query, columns = self._lateral_query(left, depth)
        given = tuple(column.of(alias) for column in columns)
        joined = {
            "LATERAL": f"{left.sql} CROSS JOIN LATERAL ({query}) {alias}",
            "LEFT LATERAL": f"{left.sql} LEFT JOIN LATERAL ({query}) {alias} ON true",
            "COMMA LATERAL": f"{left.sql}, LATERAL ({query}) {alias}",
        }
        return From(joined[kind], left.columns + given)

    def _searched(self, left: From) -> From:
        """LLM_SEARCH for each text of a column of a small table that stands before it."""
        source = self._source
        asking = [
            (column, self._read[alias])
            for column in left.columns
            if column.type == VARCHAR and (alias := column.sql.rpartition(".")[0]) in self._read
        ]
        if not asking:
            return left
        question, asked = source.pick(asking)
        text, columns = search_of_rows(source, source.pick(self._small), question, asked)
        alias = source.name("s")
        joined = (
            f"{left.sql}, {text} {alias}",
            f"{left.sql} CROSS JOIN {text} {alias}",
            f"{left.sql} LEFT JOIN LATERAL {text} {alias} ON true",
        )
        given = tuple(column.of(alias) for column in columns)
        return From(source.pick(joined), left.columns + given)

    def _lateral_query(self, left: From, depth: int) -> tuple[str, tuple[Column, ...]]:
        source = self._source
        inner = self._one(0) if source.chance(2) else From("", ())
        scope = Scope(inner.columns, left.columns)
        types = source.some((VARCHAR, INTEGER, BOOLEAN), 1, 2)
        columns, items = [], []
        for type_ in types:
            name = source.name("r")
            items.append(f"{self._expressions.value(type_, scope, 1)} AS {name}")
            columns.append(Column(name, type_))
        text = f"SELECT {', '.join(items)}"
        if inner.sql:
            text += f" FROM {inner.sql} WHERE {self._expressions.condition(scope, 1)}"
        return text, tuple(columns)
