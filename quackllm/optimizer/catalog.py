"""What planning may ask about the database; the engine answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sqlglot import exp


class Catalog(Protocol):
    """Questions about names, types and functions. None of them runs the query."""

    def columns(self, query: exp.Expression) -> tuple[tuple[str, str], ...] | None:
        """Names and DuckDB types of a query's output, or None when it does not bind.

        The query may hold `ModelCall` nodes; asking never calls a model.
        """

    def schema(self, sql: str) -> tuple[tuple[str, str], ...] | None:
        """Names and types of the output of a query given as text, None if it does not bind."""

    def is_aggregate(self, function: str) -> bool:
        """Whether DuckDB knows the function as an aggregate."""

    def is_volatile(self, function: str) -> bool:
        """Whether the function may give another value at each evaluation."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values of the statement's parameters by name."""
