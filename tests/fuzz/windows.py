"""Window functions whose values ties cannot change, calls in every part of them."""

from __future__ import annotations

from tests.fuzz.cases import BOOLEAN, DOUBLE, INTEGER, VARCHAR, Scope
from tests.fuzz.expressions import Expressions
from tests.fuzz.source import Source


class Windows:
    """Writes window expressions over the rows of a block."""

    def __init__(self, source: Source, expressions: Expressions) -> None:
        self._source = source
        self._expressions = expressions

    def value(self, scope: Scope) -> tuple[str, str]:
        """A window expression and its type."""
        source, make = self._source, self._expressions
        source.use("window")
        partition = ""
        if source.chance(2):
            key = make.value(source.pick((VARCHAR, BOOLEAN)), Scope(scope.local), 1)
            partition = f"PARTITION BY {key}"
        ordered = f"{partition} ORDER BY {self._order(scope)}".strip()
        loose = f"{partition} ORDER BY {make.value(DOUBLE, Scope(scope.local), 1)}".strip()
        kind = source.below(9)
        if kind == 0:
            return f"row_number() OVER ({ordered})", INTEGER
        if kind == 1:
            return f"count(*) OVER ({partition})", INTEGER
        if kind == 2:
            return f"rank() OVER ({loose})", INTEGER
        if kind == 3:
            return f"sum({make.value(INTEGER, scope, 1)}) OVER ({partition})", INTEGER
        if kind == 4:
            return f"lag({make.value(VARCHAR, Scope(scope.local), 1)}) OVER ({ordered})", VARCHAR
        if kind == 5:
            keep = make.condition(scope, 1)
            return f"count(*) FILTER (WHERE {keep}) OVER ({partition})", INTEGER
        if kind >= 7:
            rank = kind == 7
            return make.joint(INTEGER if rank else VARCHAR, scope), INTEGER if rank else VARCHAR
        source.use("call on a window function")
        source.calls += 1
        return f"LLM('p', row_number() OVER ({ordered}))", VARCHAR

    def condition(self, scope: Scope) -> str:
        """What QUALIFY asks."""
        source = self._source
        source.use("QUALIFY")
        value, type_ = self.value(scope)
        test = f"{value} <= 2" if type_ == INTEGER else f"{value} IS NOT NULL"
        if source.chance(2):
            operator = source.pick(("AND", "OR"))
            return f"{test} {operator} {self._expressions.condition(scope, 1)}"
        return test

    def _order(self, scope: Scope) -> str:
        """Every column: rows that tie are equal throughout."""
        keys = [column.sql for column in scope.local]
        if self._source.chance(2):
            keys.insert(0, self._expressions.value(DOUBLE, Scope(scope.local), 1))
        return ", ".join(keys) or "1"
