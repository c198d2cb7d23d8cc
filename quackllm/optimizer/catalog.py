"""What planning may ask about the database; the engine answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlglot import exp


@dataclass(frozen=True)
class PredicateStatistics:
    """What is known of predicates that call a model, under one AND; one entry for each.

    tokens: prompt tokens of a call. tuples: distinct argument tuples that there are.
    together: by two positions, the lower one first, distinct tuples of both together.
    selectivities: share of tuples that a predicate accepts, as a sample says or assumed.
    sampled: whether a sample says it.
    """

    tokens: tuple[float, ...]
    tuples: tuple[float, ...]
    together: Mapping[tuple[int, int], float]
    selectivities: tuple[float, ...]
    sampled: bool = False


class Catalog(Protocol):
    """Questions about names, types, functions and counts. None of them calls a model."""

    def columns(self, query: exp.Query) -> tuple[tuple[str, str], ...] | None:
        """Names and DuckDB types of a query's output, or None when it does not bind.

        The query may hold `ModelCall` nodes; asking never calls a model.
        """

    def schema(self, sql: str) -> tuple[tuple[str, str], ...] | None:
        """Names and types of the output of a query given as text, None if it does not bind."""

    def number(self, query: exp.Query) -> float | None:
        """The one number that a query without calls gives; None when it fails."""

    def can_plan(self, sql: str) -> bool:
        """Whether this version of DuckDB can plan a form of query; it names no table."""

    def nulls_come_last(self) -> bool:
        """Whether ORDER BY ascends and puts NULLs last where it says nothing of them."""

    def is_aggregate(self, function: str) -> bool:
        """Whether DuckDB knows the function as an aggregate."""

    def is_volatile(self, function: str) -> bool:
        """Whether the function may give another value at each evaluation."""

    def statistics(self, predicates: tuple[exp.Expr, ...]) -> PredicateStatistics | None:
        """What is known of the predicates with calls under one AND, as they are written."""

    def is_never_true(self, condition: exp.Expr) -> bool:
        """Whether a condition without columns and calls is FALSE or NULL."""

    @property
    def approximate(self) -> bool:
        """Whether the user allows that rows of a join are missed."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values of the statement's parameters by name."""
