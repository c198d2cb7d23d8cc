"""Typed expressions, with calls, conditionals and subqueries inside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from tests.fuzz.calls import Calls
from tests.fuzz.cases import BOOLEAN, DATE, DOUBLE, INTEGER, TEXTS, VARCHAR, Scope
from tests.fuzz.source import Source

LITERALS: Mapping[str, tuple[str, ...]] = {
    VARCHAR: ("'x'", "'y'", "NULL::VARCHAR"),
    INTEGER: ("1", "2", "0", "NULL::INTEGER"),
    DOUBLE: ("1.5::DOUBLE", "0.25::DOUBLE"),
    BOOLEAN: ("true", "false", "NULL::BOOLEAN"),
    DATE: ("DATE '2020-02-29'",),
    TEXTS: ("['x', 'y']",),
}

DERIVED: Mapping[str, str] = {
    VARCHAR: "CAST({} AS VARCHAR)",
    INTEGER: "length(CAST({} AS VARCHAR))",
    DOUBLE: "(length(CAST({} AS VARCHAR)) / 4)",
    BOOLEAN: "(length(CAST({} AS VARCHAR)) > 1)",
    DATE: "(DATE '2020-02-29' + length(CAST({} AS VARCHAR))::INTEGER)",
    TEXTS: "[CAST({} AS VARCHAR)]",
}
"""An expression of a type, made of a column of another."""


class Subqueries(Protocol):
    """What expressions ask of the module that writes subqueries."""

    def scalar(self, type_: str, scope: Scope) -> str:
        """A subquery of one value."""

    def condition(self, scope: Scope, depth: int) -> str:
        """EXISTS, IN, ANY and ALL."""


Make = Callable[[], str]


class Expressions:
    """Writes expressions over a scope. `calls=False` leaves LLM functions out."""

    def __init__(self, source: Source, calls: Calls) -> None:
        self._source = source
        self.calls = calls
        self.subqueries: Subqueries | None = None

    def value(self, type_: str, scope: Scope, depth: int = 2, calls: bool = True) -> str:
        """An expression of a type."""
        source = self._source
        if calls and source.may_call():
            return self._call(type_, scope, depth)
        if depth <= 0 or source.chance(2):
            return self._leaf(type_, scope)
        deeper = _Deeper(self, scope, depth - 1, calls)
        options: list[Make] = [
            *self._operators(type_, deeper),
            lambda: self._case(type_, deeper),
            lambda: self._coalesce(type_, deeper),
            lambda: self._if(type_, deeper),
        ]
        if self.subqueries is not None and calls:
            subqueries = self.subqueries
            options.append(lambda: subqueries.scalar(type_, scope))
            if type_ == BOOLEAN:
                options.append(lambda: subqueries.condition(scope, depth - 1))
        return source.pick(options)()

    def joint(self, type_: str, scope: Scope) -> str:
        """A call about all rows of a block: a rank where INTEGER is wanted, else a topic."""
        return self.calls.joint(type_, scope, lambda wanted: self.value(wanted, scope, 1))

    def pairs(self, left: Scope, right: Scope) -> str:
        """A condition of a join that a model decides for each pair of rows."""
        return self.calls.pairs(left, right)

    def condition(self, scope: Scope, depth: int = 2, calls: bool = True) -> str:
        """A predicate: a BOOLEAN expression, mostly one that filters something."""
        source = self._source
        deeper = _Deeper(self, scope, depth - 1, calls)
        if depth > 0 and source.chance(2):
            operator = source.pick(("AND", "AND", "OR"))
            source.use(f"condition: {operator}")
            left, right = self.condition(scope, depth - 1, calls), deeper(BOOLEAN)
            return f"({left} {operator} {right})"
        if calls and source.may_call():
            return self._call(BOOLEAN, scope, depth)
        return deeper(BOOLEAN) if source.chance(3) else self._comparison(deeper)

    def _call(self, type_: str, scope: Scope, depth: int) -> str:
        nested = self._source.chance(3)

        def argument(wanted: str) -> str:
            if nested:
                self._source.use("argument: may hold a call")
            return self.value(wanted, scope, depth - 1, calls=nested)

        return self.calls.call(type_, scope, argument)

    def _leaf(self, type_: str, scope: Scope) -> str:
        found = scope.of_type(type_)
        if self._source.chance(8) or not scope.columns:
            return self._source.pick(LITERALS[type_])
        if found:
            return self._source.pick(found).sql
        return DERIVED[type_].format(self._source.pick(scope.columns).sql)

    def _case(self, type_: str, deeper: _Deeper) -> str:
        source = self._source
        source.use("CASE")
        default = f" ELSE {deeper(type_)}" if not source.chance(3) else ""
        if source.chance(3):
            test = source.pick((INTEGER, VARCHAR))
            branches = [f"WHEN {deeper(test)} THEN {deeper(type_)}"]
            return f"CASE {deeper(test)} {' '.join(branches)}{default} END"
        branches = [
            f"WHEN {deeper(BOOLEAN)} THEN {deeper(type_)}" for _ in range(1 + source.below(2))
        ]
        return f"CASE {' '.join(branches)}{default} END"

    def _coalesce(self, type_: str, deeper: _Deeper) -> str:
        self._source.use("COALESCE")
        name = self._source.pick(("coalesce", "ifnull"))
        parts = [deeper(type_), deeper(type_)]
        if name == "coalesce" and self._source.chance(3):
            parts.append(deeper(type_))
        return f"{name}({', '.join(parts)})"

    def _if(self, type_: str, deeper: _Deeper) -> str:
        self._source.use("IF")
        return f"if({deeper(BOOLEAN)}, {deeper(type_)}, {deeper(type_)})"

    def _lambda(self, deeper: _Deeper) -> str:
        self._source.use("lambda with a call")
        self._source.calls += 1
        return f"list_transform({deeper(TEXTS)}, lambda e: LLM_SENTIMENT(e))"

    def _cast(self) -> str:
        """TRY_CAST, or rarely CAST, which fails for a text that is no number."""
        if not self._source.chance(8):
            return "TRY_CAST"
        self._source.use("cast that can fail")
        return "CAST"

    def _comparison(self, deeper: _Deeper) -> str:
        source = self._source
        type_ = source.pick((INTEGER, VARCHAR, DOUBLE, DATE))
        operator = source.pick(("=", "<", ">=", "<>", "IS DISTINCT FROM", "BETWEEN", "IN"))
        left = deeper(type_)
        if operator == "BETWEEN":
            return f"({left} BETWEEN {deeper(type_)} AND {deeper(type_)})"
        if operator == "IN":
            word = source.pick(("IN", "NOT IN"))
            return f"({left} {word} ({deeper(type_)}, {deeper(type_)}))"
        return f"({left} {operator} {deeper(type_)})"

    def _operators(self, type_: str, deeper: _Deeper) -> list[Make]:
        texts: list[Make] = [
            lambda: f"upper({deeper(VARCHAR)})",
            lambda: f"({deeper(VARCHAR)} || {deeper(VARCHAR)})",
            lambda: f"CAST({deeper(self._source.pick((INTEGER, DATE, BOOLEAN)))} AS VARCHAR)",
            lambda: f"({deeper(TEXTS)})[1]",
            lambda: f"list_transform({deeper(TEXTS)}, lambda e: upper(e))[1]",
        ]
        integers: list[Make] = [
            lambda: f"length({deeper(VARCHAR)})",
            lambda: f"({deeper(INTEGER)} + 1)",
            lambda: f"(- {deeper(INTEGER)})",
            lambda: f"len({deeper(TEXTS)})",
            lambda: f"year({deeper(DATE)})",
            lambda: f"{self._cast()}({deeper(VARCHAR)} AS INTEGER)",
        ]
        booleans: list[Make] = [
            lambda: f"(NOT {deeper(BOOLEAN)})",
            lambda: f"({deeper(BOOLEAN)} AND {deeper(BOOLEAN)})",
            lambda: f"({deeper(BOOLEAN)} OR {deeper(BOOLEAN)})",
            lambda: f"({deeper(self._source.pick((VARCHAR, INTEGER, BOOLEAN)))} IS NULL)",
            lambda: f"({deeper(self._source.pick((VARCHAR, DATE)))} IS NOT NULL)",
            lambda: f"({deeper(BOOLEAN)} IS NOT TRUE)",
            lambda: self._comparison(deeper),
            lambda: f"({deeper(VARCHAR)} LIKE '%x%')",
            lambda: f"list_contains({deeper(TEXTS)}, {deeper(VARCHAR)})",
        ]
        by_type: dict[str, list[Make]] = {
            VARCHAR: texts,
            INTEGER: integers,
            BOOLEAN: booleans,
            DOUBLE: [
                lambda: f"({deeper(DOUBLE)} + 0.5)",
                lambda: f"CAST({deeper(INTEGER)} AS DOUBLE)",
            ],
            DATE: [lambda: f"({deeper(DATE)} + 1)"],
            TEXTS: [
                lambda: f"[{deeper(VARCHAR)}, {deeper(VARCHAR)}]",
                lambda: self._lambda(deeper),
            ],
        }
        return by_type[type_]


class _Deeper:
    """Expressions one level further down."""

    def __init__(self, parent: Expressions, scope: Scope, depth: int, calls: bool) -> None:
        self._parent = parent
        self._scope = scope
        self._depth = depth
        self._calls = calls

    def __call__(self, type_: str) -> str:
        return self._parent.value(type_, self._scope, self._depth, self._calls)
