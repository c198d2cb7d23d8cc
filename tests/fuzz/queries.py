"""Whole queries: set operations, CTEs, recursion, VALUES, and their order and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fuzz.calls import Calls
from tests.fuzz.cases import BOOLEAN, INTEGER, VARCHAR, Column, Scope, Table
from tests.fuzz.expressions import Expressions
from tests.fuzz.selects import Query, Selects
from tests.fuzz.source import Source
from tests.fuzz.sources import Sources
from tests.fuzz.subqueries import ExpressionSubqueries

SET_OPERATIONS = (
    "UNION ALL",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "EXCEPT ALL",
    "INTERSECT ALL",
    "UNION ALL BY NAME",
)


@dataclass(frozen=True)
class Ordered:
    """ORDER BY and LIMIT of a query, and what of the result they fix.

    fixed: output positions whose sequence is determined.
    chooses: LIMIT may take any of several rows.
    """

    order: str = ""
    limit: str = ""
    fixed: tuple[int, ...] = ()
    chooses: bool = False


class Queries:
    """Writes queries over a set of tables."""

    def __init__(self, source: Source, tables: Sequence[Table]) -> None:
        self._source = source
        self._large = any(table.more for table in tables)
        self.expressions = Expressions(source, Calls(source))
        self.sources = Sources(source, tables, self.expressions)
        self.selects = Selects(source, self.sources, self.expressions)
        self.sources.queries = self
        self.expressions.subqueries = ExpressionSubqueries(source, self.sources, self.expressions)

    def derived(self, depth: int, outer: tuple[Column, ...]) -> tuple[str, tuple[Column, ...]]:
        """A query for FROM, whose rows are fixed even where it has a LIMIT."""
        source = self._source
        query = self.body(depth, outer)
        sql = query.sql
        if source.chance(5):
            source.use("LIMIT in a subquery")
            sql = f"SELECT * FROM ({sql}) ORDER BY ALL LIMIT {1 + source.below(3)}"
        return sql, query.columns

    def body(
        self, depth: int, outer: tuple[Column, ...] = (), types: Sequence[str] | None = None
    ) -> Query:
        """A block or a set operation."""
        source = self._source
        if depth <= 0 or not source.chance(8):
            return self.selects.block(depth, outer, types)
        types = types or source.some((VARCHAR, INTEGER, BOOLEAN), 1, 2)
        operation = source.pick(SET_OPERATIONS)
        source.use(f"set operation: {operation}")
        left = self.selects.block(depth - 1, outer, types)
        right = self.selects.block(depth - 1, outer, types)
        if operation.endswith("BY NAME"):
            renamed = ", ".join(
                f"{b.sql} AS {a.sql}" for a, b in zip(left.columns, right.columns, strict=True)
            )
            right = Query(f"SELECT {renamed} FROM ({right.sql})", left.columns)
        texts = (self._limited(left), self._limited(right))
        return Query(f" {operation} ".join(texts), left.columns)

    def _limited(self, operand: Query) -> str:
        """Write an operand, perhaps with the first of its rows only."""
        source = self._source
        if not source.chance(5):
            return operand.sql
        source.use("LIMIT in an operand")
        return f"({operand.sql} ORDER BY ALL LIMIT {source.below(4)})"

    def top(self) -> tuple[str, Query]:
        """WITH clause and body of a whole query."""
        source = self._source
        kind = source.below(24)
        if kind == 23:
            return "", self._values()
        if kind == 22:
            return self._recursive()
        clauses = [self._cte() for _ in range(source.pick((0, 0, 0, 0, 0, 1, 1, 2)))]
        text = f"WITH {', '.join(clauses)} " if clauses else ""
        return text, self.body(2)

    def _cte(self) -> str:
        source = self._source
        how = source.pick(("AS", "AS MATERIALIZED", "AS NOT MATERIALIZED"))
        source.use("CTE " + how)
        sql, columns = self.derived(1, ())
        name = source.name("w")
        self.sources.add(name, columns, first=not source.chance(2))
        return f"{name} {how} ({sql})"

    def _values(self) -> Query:
        source = self._source
        source.use("VALUES")
        none = Scope(())
        rows = [
            f"({self.expressions.value(VARCHAR, none, 1)}, "
            f"{self.expressions.value(INTEGER, none, 1)})"
            for _ in range(1 + source.below(3))
        ]
        columns = (Column("col0", VARCHAR), Column("col1", INTEGER))
        return Query(f"VALUES {', '.join(rows)}", columns)

    def _recursive(self) -> tuple[str, Query]:
        source = self._source
        source.use("recursive CTE")
        name, step = source.name("w"), (Column("t", VARCHAR), Column("n", INTEGER))
        start = self.selects.block(0, (), (VARCHAR, INTEGER))
        value = self.expressions.value(VARCHAR, Scope(step), 1)
        where = "n < 2"
        if source.chance(2):
            where += f" AND {self.expressions.condition(Scope(step), 1)}"
        text = (
            f"WITH RECURSIVE {name}(t, n) AS (SELECT * FROM (SELECT {start.columns[0].sql}, 0 "
            f"FROM ({start.sql})) UNION SELECT {value}, n + 1 FROM {name} WHERE {where}) "
        )
        self.sources.add(name, step, first=True)
        return text, self.selects.block(1, (), None)

    def ordered(self, query: Query) -> Ordered:
        """Draw ORDER BY and LIMIT for a query."""
        source = self._source
        positions = tuple(range(len(query.columns)))
        kind = source.below(8)
        limit = self._limit() if source.chance(3) else ""
        if kind < 3:
            return Ordered("", limit, (), bool(limit))
        if kind == 3:
            source.use("ORDER BY ALL")
            return Ordered(" ORDER BY ALL", limit, positions)
        first = source.pick(positions)
        direction = source.pick(("", " DESC", " NULLS FIRST"))
        if kind == 4:
            source.use("ORDER BY, partial")
            return Ordered(f" ORDER BY {first + 1}{direction}", limit, (first,), bool(limit))
        keys = [f"{first + 1}{direction}"]
        if kind >= 6 and not query.sql.startswith(("VALUES", "FROM")) and self._single(query):
            keys = [self._order_key(query) + direction]
        around = "({})" if source.chance(8) else "{}"
        keys += [around.format(position + 1) for position in positions]
        source.use("ORDER BY, total")
        return Ordered(f" ORDER BY {', '.join(keys)}", limit, positions)

    def _order_key(self, query: Query) -> str:
        if self._source.chance(4):
            self._source.use("ORDER BY LLM_RANK")
            return self.expressions.joint(INTEGER, Scope(query.columns))
        self._source.use("ORDER BY expression")
        type_ = self._source.pick(("DOUBLE", VARCHAR))
        key = self.expressions.value(type_, Scope(query.columns), 1)
        return f"concat({key}, '!')" if key.startswith(("'", "NULL")) else key

    def _single(self, query: Query) -> bool:
        words = (" UNION ", " EXCEPT ", " INTERSECT ", "DISTINCT")
        return not any(word in query.sql for word in words)

    def _limit(self) -> str:
        source = self._source
        source.use("LIMIT")
        text = f" LIMIT {source.pick((1, 2, 3, 0, 5, 30, 120) if self._large else (1, 2, 3, 0, 5))}"
        if source.chance(4):
            source.use("OFFSET")
            text += f" OFFSET {1 + source.below(2)}"
        return text
