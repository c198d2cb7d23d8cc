"""What planning may ask about the database; the engine answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlglot import exp


@dataclass(frozen=True)
class PredicateStatistics:
    """selectivity: share of rows that a predicate accepts. tokens: what a row costs, in
    prompt tokens of its calls."""

    selectivity: float
    tokens: float


class Catalog(Protocol):
    """Questions about names, types and functions. None of them runs the query."""

    def columns(self, query: exp.Query) -> tuple[tuple[str, str], ...] | None:
        """Names and DuckDB types of a query's output, or None when it does not bind.

        The query may hold `ModelCall` nodes; asking never calls a model.
        """

    def schema(self, sql: str) -> tuple[tuple[str, str], ...] | None:
        """Names and types of the output of a query given as text, None if it does not bind."""

    def can_plan(self, sql: str) -> bool:
        """Whether this version of DuckDB can plan a form of query; it names no table."""

    def is_aggregate(self, function: str) -> bool:
        """Whether DuckDB knows the function as an aggregate."""

    def is_volatile(self, function: str) -> bool:
        """Whether the function may give another value at each evaluation."""

    def statistics(self, predicate: exp.Expr) -> PredicateStatistics | None:
        """What a sample of the rows told of a predicate that calls a model, if one was taken."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values of the statement's parameters by name."""
