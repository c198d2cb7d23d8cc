"""The planner's questions about the database, put to DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
from sqlglot import exp

from quackllm.optimizer.catalog import PredicateStatistics
from quackllm.optimizer.naive import BINDING, naive_text
from quackllm.optimizer.sql import text
from quackllm.udfs.base import Call

Schema = tuple[tuple[str, str], ...]


class FunctionNames:
    """Which of DuckDB's functions are aggregates and which are volatile; read when needed."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[bool, bool]] = {}

    def kind(self, connection: duckdb.DuckDBPyConnection, name: str) -> tuple[bool, bool]:
        """Return (is an aggregate, is volatile); (False, False) for an unknown name."""
        name = name.lower()
        if name not in self._kinds:
            rows = connection.execute(
                "SELECT lower(function_name), bool_or(function_type = 'aggregate'), "
                "bool_or(coalesce(stability, '') = 'VOLATILE') "
                "FROM duckdb_functions() GROUP BY 1"
            ).fetchall()
            self._kinds.update({row[0]: (row[1], row[2]) for row in rows})
            self._kinds.setdefault(name, (False, False))
        return self._kinds[name]


class DuckCatalog:
    """A `quackllm.optimizer.catalog.Catalog` over one connection, for one statement."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        names: FunctionNames,
        calls: Mapping[str, Call],
        parameters: Mapping[str, Any],
    ) -> None:
        self._connection = connection
        self._names = names
        self._calls = calls
        self._parameters = parameters
        self._statistics: dict[exp.Expr, PredicateStatistics] = {}

    def learn(self, predicate: exp.Expr, statistics: PredicateStatistics) -> None:
        """Remember what a sample told."""
        self._statistics[predicate] = statistics

    def statistics(self, predicate: exp.Expr) -> PredicateStatistics | None:
        """What a sample of the rows told of a predicate, if one was taken."""
        return self._statistics.get(predicate)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values of the statement's parameters by name."""
        return self._parameters

    def columns(self, query: exp.Query) -> Schema | None:
        """Names and types of a query's output, None when it does not bind."""
        return self.schema(naive_text(query, self._calls, BINDING))

    def schema(self, sql: str) -> Schema | None:
        """Names and types of the output of a query given as text, None if it does not bind."""
        try:
            return self.describe(sql)
        except duckdb.Error:
            return None

    def describe(self, sql: str) -> Schema:
        """Names and types of the output of a query. Raises DuckDB's error."""
        given = used_parameters(self._connection, sql, self._parameters)
        rows = self._connection.execute(f"DESCRIBE {sql}", given).fetchall()
        return tuple((row[0], row[1]) for row in rows)

    def one_row(self, sql: str) -> tuple[Any, ...]:
        """Run a query without calls and return its first row."""
        given = used_parameters(self._connection, sql, self._parameters)
        row = self._connection.execute(sql, given).fetchone()
        assert row is not None
        return tuple(row)

    def fold(self, node: exp.Expr) -> Any:
        """Evaluate an expression without columns. Raises DuckDB's error."""
        sql = f"SELECT {text(node.copy())}"
        given = used_parameters(self._connection, sql, self._parameters)
        row = self._connection.execute(sql, given).fetchone()
        return None if row is None else row[0]

    def is_aggregate(self, function: str) -> bool:
        """Whether DuckDB knows the function as an aggregate."""
        return self._names.kind(self._connection, function)[0]

    def is_volatile(self, function: str) -> bool:
        """Whether the function may give another value at each evaluation."""
        return self._names.kind(self._connection, function)[1]


def used_parameters(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the parameters that a statement names: DuckDB refuses others."""
    if not parameters:
        return None
    names: set[str] = set()
    for statement in connection.extract_statements(sql):
        names.update(statement.named_parameters)
    return {name: value for name, value in parameters.items() if name in names}
