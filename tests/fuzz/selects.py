"""SELECT blocks: lists, stars, groups, DISTINCT, windows, and names for every column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fuzz.cases import BOOLEAN, DOUBLE, INTEGER, TEXTS, TYPES, VARCHAR, Column, Scope
from tests.fuzz.expressions import Expressions
from tests.fuzz.source import Source
from tests.fuzz.sources import From, Sources
from tests.fuzz.windows import Windows


@dataclass(frozen=True)
class Query:
    """A query without ORDER BY and LIMIT, and the columns that it gives."""

    sql: str
    columns: tuple[Column, ...]


class Selects:
    """Writes one SELECT block."""

    def __init__(self, source: Source, sources: Sources, expressions: Expressions) -> None:
        self._source = source
        self._sources = sources
        self._expressions = expressions
        self._windows = Windows(source, expressions)

    def block(self, depth: int, outer: tuple[Column, ...], types: Sequence[str] | None) -> Query:
        """A block whose output has the types, when they are given."""
        source = self._source
        rows = self._sources.tables(depth, outer)
        scope = Scope(rows.columns, outer)
        if types is not None:
            return self._list(rows, scope, types)
        kind = source.below(11)
        if kind < 4:
            return self._list(rows, scope, source.some(TYPES, 1, 3))
        if kind < 7:
            return self._grouped(rows, scope)
        if kind < 9:
            return self._star(rows, scope)
        return self._distinct_on(rows, scope)

    def _list(self, rows: From, scope: Scope, types: Sequence[str]) -> Query:
        source = self._source
        distinct = source.chance(6)
        items, columns = self._items(scope, types)
        window = not distinct and source.chance(5)
        if window and len(types) == len(columns) and scope.local:
            value, type_ = self._windows.value(scope)
            if type_ == types[-1]:
                items[-1] = f"{value} AS {columns[-1].sql}"
        if distinct:
            source.use("DISTINCT")
        text = f"SELECT {'DISTINCT ' if distinct else ''}{', '.join(items)} FROM {rows.sql}"
        text += self._where(scope, columns)
        if not distinct and scope.local and source.chance(8):
            text += f" QUALIFY {self._windows.condition(scope)}"
        return Query(text, tuple(columns))

    def _items(self, scope: Scope, types: Sequence[str]) -> tuple[list[str], list[Column]]:
        source = self._source
        items: list[str] = []
        columns: list[Column] = []
        for type_ in types:
            reachable = scope
            if columns and source.chance(6):
                source.use("lateral column alias")
                reachable = Scope((*columns, *scope.local), scope.outer)
            name = source.name("r")
            if scope.local and source.chance(16):
                source.use("alias that is a column's name")
                name = source.pick(scope.local).name
            items.append(f"{self._expressions.value(type_, reachable)} AS {name}")
            columns.append(Column(name, type_))
        return items, columns

    def _where(self, scope: Scope, aliases: Sequence[Column] = ()) -> str:
        source = self._source
        if source.chance(3):
            return ""
        if aliases and source.chance(15):
            source.use("alias in WHERE")
            scope = Scope((*scope.local, *aliases), scope.outer)
        before = source.calls
        text = f" WHERE {self._expressions.condition(scope)}"
        if source.calls > before:
            source.use("call in WHERE")
        return text

    def _star(self, rows: From, scope: Scope) -> Query:
        """`*` with its variants; the columns it gives are those of the first source."""
        source = self._source
        names = [column.name for column in rows.columns]
        unique = len(set(map(str.lower, names))) == len(names) and bool(names)
        columns = [Column(column.name, column.type) for column in rows.columns]
        if not unique:
            return self._list(rows, scope, [VARCHAR, BOOLEAN])
        star, kind = "*", source.below(4)
        if kind == 1 and len(columns) > 1:
            source.use("* EXCLUDE")
            star = f"* EXCLUDE ({columns.pop(0).sql})"
        elif kind == 2:
            source.use("* REPLACE")
            replaced = source.pick(columns)
            value = self._expressions.value(replaced.type, scope, 1)
            star = f"* REPLACE ({value} AS {replaced.sql})"
        if kind == 3:
            source.use("FROM first")
            return Query(f"FROM {rows.sql}{self._where(scope)}", tuple(columns))
        items = [star]
        if source.chance(2):
            name, type_ = source.name("r"), source.pick(TYPES)
            items.append(f"{self._expressions.value(type_, scope, 1)} AS {name}")
            columns.append(Column(name, type_))
        source.use("*")
        text = f"SELECT {', '.join(items)} FROM {rows.sql}{self._where(scope)}"
        return Query(text, tuple(columns))

    def _distinct_on(self, rows: From, scope: Scope) -> Query:
        """DISTINCT ON with an order over all columns, so that the kept row is fixed."""
        source = self._source
        if not scope.local:
            return self._list(rows, scope, [VARCHAR])
        source.use("DISTINCT ON")
        key = self._ordered_value(scope, calls=True)
        items, columns = self._items(scope, source.some(TYPES, 1, 2))
        order = ", ".join(column.sql for column in scope.local)
        text = (
            f"SELECT DISTINCT ON ({key}) {', '.join(items)} FROM {rows.sql}{self._where(scope)}"
            f" ORDER BY {order}"
        )
        return Query(f"SELECT * FROM ({text})", tuple(columns))

    def _grouped(self, rows: From, scope: Scope) -> Query:
        """Keys and aggregates, GROUP BY in one of its forms, perhaps HAVING."""
        source = self._source
        types = source.some((VARCHAR, BOOLEAN, INTEGER), 0, 2)
        before = source.calls
        keys = [self._expressions.value(type_, scope, 1) for type_ in types]
        if source.calls > before:
            source.use("call in GROUP BY")
        columns = [Column(source.name("g"), type_) for type_ in types]
        items = [f"{key} AS {column.sql}" for key, column in zip(keys, columns, strict=True)]
        aliases = list(columns)
        for _ in range(1 + source.below(2)):
            text, type_ = self._aggregate(scope, aliases)
            columns.append(Column(source.name("r"), type_))
            items.append(f"{text} AS {columns[-1].sql}")
        where = self._where(scope)
        group = self._group_by(keys, aliases)
        having = self._having(scope, aliases)
        source.use("GROUP BY" if keys else "aggregate without GROUP BY")
        text = f"SELECT {', '.join(items)} FROM {rows.sql}{where}{group}{having}"
        return Query(text, tuple(columns))

    def _group_by(self, keys: list[str], aliases: list[Column]) -> str:
        if not keys:
            return ""
        forms = [
            ", ".join(column.sql for column in aliases),
            ", ".join(str(position + 1) for position in range(len(keys))),
            "ALL",
            ", ".join(keys),
            f"ROLLUP ({', '.join(keys)})",
            self._grouping_sets(keys, aliases),
        ]
        if self._source.chance(8):
            self._source.use("GROUP BY a key in parentheses")
            forms[:2] = [", ".join(f"({key})" for key in form.split(", ")) for form in forms[:2]]
        form = self._source.below(len(forms))
        names = ("aliases", "positions", "ALL", "text", "ROLLUP", "sets")
        self._source.use(f"GROUP BY {names[form]}")
        return f" GROUP BY {forms[form]}"

    def _grouping_sets(self, keys: list[str], aliases: list[Column]) -> str:
        """Grouping sets whose keys are named in any way, one perhaps twice."""
        source = self._source
        word = source.pick(("CUBE", "GROUPING SETS", "ROLLUP"))
        positions = map(str, range(1, len(keys) + 1))
        ways = list(zip(keys, (column.sql for column in aliases), positions, strict=True))
        named = [source.pick(way) for way in ways]
        if source.chance(4):
            named.append(source.pick(source.pick(ways)))
        if word == "GROUPING SETS":
            return f"{word} (({', '.join(named)}), ({source.pick(named)}), ())"
        return f"{word} ({', '.join(named)})"

    def _having(self, scope: Scope, keys: list[Column]) -> str:
        source = self._source
        if not source.chance(3):
            return ""
        before = source.calls
        parts = [f"{self._aggregate(scope, keys)[0]} IS NOT NULL"]
        if source.chance(2):
            parts.append(self._expressions.condition(Scope(tuple(keys)), 1))
        if source.chance(2):
            source.calls += 1
            parts.append(f"LLM_FILTER('p', max({self._plain(VARCHAR, scope)}))")
        source.use("HAVING" + (" with a call" if source.calls > before else ""))
        return f" HAVING {' AND '.join(parts)}"

    def _aggregate(self, scope: Scope, keys: list[Column]) -> tuple[str, str]:
        """An aggregate that the order of rows does not change, or a call on some."""
        source, make = self._source, self._expressions
        kind = source.below(11)
        if kind == 9:
            source.use("call on an aggregate")
            source.calls += 1
            inner, _ = self._aggregate(scope, [])
            extra = f", {keys[0].sql}" if keys and source.chance(2) else ""
            return f"LLM('p', {inner}{extra})", VARCHAR
        text, type_ = self._plain_aggregate(kind, scope)
        if source.chance(4):
            before = source.calls
            text += f" FILTER (WHERE {make.condition(scope, 1)})"
            source.use("FILTER" + (" with a call" if source.calls > before else ""))
        if type_ == DOUBLE:
            text = f"round({text}, 6)"
        return text, type_

    def _plain_aggregate(self, kind: int, scope: Scope) -> tuple[str, str]:
        make = self._expressions
        if kind == 0:
            return "count(*)", INTEGER
        if kind == 1:
            return f"max({make.value(VARCHAR, scope, 1)})", VARCHAR
        if kind == 2:
            return f"sum({make.value(INTEGER, scope, 1)})", INTEGER
        if kind == 3:
            return f"avg({make.value(DOUBLE, scope, 1)})", DOUBLE
        if kind == 4:
            return f"count(DISTINCT {make.value(VARCHAR, scope, 1)})", INTEGER
        if kind == 5:
            return f"bool_and({make.value(BOOLEAN, scope, 1)})", BOOLEAN
        if kind == 6:
            value = self._ordered_value(scope, calls=False)
            return f"string_agg({value}, ',' ORDER BY {value})", VARCHAR
        if kind == 7:
            value = self._ordered_value(scope, calls=True)
            return f"list({value} ORDER BY {value})", TEXTS
        if kind == 10:
            return make.calls.aggregate(make.value(VARCHAR, scope, 1)), VARCHAR
        return f"min({make.value(DOUBLE, scope, 1)})", DOUBLE

    def _ordered_value(self, scope: Scope, calls: bool) -> str:
        """A text to order by; DuckDB refuses constants there."""
        value = self._expressions.value(VARCHAR, scope, 1, calls)
        return f"concat({value}, '!')" if value.startswith(("'", "NULL")) else value

    def _plain(self, type_: str, scope: Scope) -> str:
        return self._expressions.value(type_, scope, 1, calls=False)
