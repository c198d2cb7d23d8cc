"""Subqueries in expressions: scalar, EXISTS, IN, ANY and ALL, correlated or not."""

from __future__ import annotations

from tests.fuzz.cases import BOOLEAN, DATE, DOUBLE, INTEGER, TEXTS, VARCHAR, Scope
from tests.fuzz.expressions import Expressions
from tests.fuzz.source import Source
from tests.fuzz.sources import Sources

MOST = 3
"""Subqueries in the expressions of one statement."""


class ExpressionSubqueries:
    """Writes subqueries over a table, their conditions perhaps on the outer columns."""

    def __init__(self, source: Source, sources: Sources, expressions: Expressions) -> None:
        self._source = source
        self._sources = sources
        self._expressions = expressions
        self._written = 0

    def scalar(self, type_: str, scope: Scope) -> str:
        """An aggregate of rows, or the first of them: one value at most."""
        if self._written >= MOST:
            return self._expressions.value(type_, scope, 0, calls=False)
        inner, rows = self._rows(scope, "scalar subquery")
        aggregates = {
            VARCHAR: "max({})",
            INTEGER: "max({})",
            DOUBLE: "min({})",
            BOOLEAN: "bool_or({})",
            DATE: "max({})",
            TEXTS: "max({})",
        }
        value = self._expressions.value(type_, inner, 1)
        # Aggregated outside, so that outer columns alone do not make it an outer aggregate.
        if self._source.chance(4):
            self._source.use("scalar subquery with LIMIT")
            return f"(SELECT v FROM (SELECT {value} AS v {rows}) ORDER BY v NULLS LAST LIMIT 1)"
        return f"(SELECT {aggregates[type_].format('v')} FROM (SELECT {value} AS v {rows}))"

    def condition(self, scope: Scope, depth: int) -> str:
        """EXISTS, IN, ANY or ALL."""
        source = self._source
        if self._written >= MOST:
            return self._expressions.value(BOOLEAN, scope, 0, calls=False)
        kind = source.pick(("EXISTS", "IN", "NOT EXISTS", "NOT IN", "= ANY", "< ALL"))
        inner, rows = self._rows(scope, kind + " subquery")
        if kind.endswith("EXISTS"):
            return f"{kind} (SELECT 1 {rows})"
        type_ = source.pick((INTEGER, VARCHAR))
        left = self._expressions.value(type_, scope, depth)
        return f"({left} {kind} (SELECT {self._expressions.value(type_, inner, 1)} {rows}))"

    def _rows(self, scope: Scope, feature: str) -> tuple[Scope, str]:
        """FROM and WHERE of a subquery, and the scope of its SELECT list."""
        source = self._source
        self._written += 1
        correlated = source.chance(2)
        source.use(feature + (", correlated" if correlated else ""))
        rows = self._sources.tables(0)
        outer = scope.columns if correlated else ()
        inner = Scope(rows.columns, outer)
        parts = [] if source.chance(3) else [self._expressions.condition(inner, 1)]
        if correlated and scope.local and rows.columns and source.chance(3):
            source.use("call on both sides in a subquery")
            parts.append(self._expressions.pairs(Scope(scope.local), Scope(rows.columns)))
        where = f" WHERE {' AND '.join(parts)}" if parts else ""
        return inner, f"FROM {rows.sql}{where}"
