"""The planner's questions about the database, put to DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
from sqlglot import exp

from quackllm.engine.transactions import finish
from quackllm.optimizer.catalog import PredicateStatistics
from quackllm.optimizer.naive import BINDING, naive_text
from quackllm.optimizer.sql import literal, text
from quackllm.udfs.base import Call

NULLS_LAST = (["nulls_last", "asc"], ["nulls_last", "ascending"])
"""How DuckDB may call its default order."""

Schema = tuple[tuple[str, str], ...]


class DuckDBFacts:
    """What does not change while a connection lives; asked when first needed."""

    def __init__(self) -> None:
        self._plannable: dict[str, bool] = {}
        self._kinds: dict[str, tuple[bool, bool]] = {}

    def can_plan(self, connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
        """Whether DuckDB can plan a query; asked beside the connection's own transaction."""
        if sql not in self._plannable:
            with connection.cursor() as beside:
                try:
                    beside.execute(f"DESCRIBE {sql}").fetchall()
                    self._plannable[sql] = True
                except duckdb.Error:
                    self._plannable[sql] = False
        return self._plannable[sql]

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
        facts: DuckDBFacts,
        calls: Mapping[str, Call],
        parameters: Mapping[str, Any],
        *,
        approximate: bool = False,
    ) -> None:
        self._approximate = approximate
        self._connection = connection
        self._facts = facts
        self._calls = calls
        self._parameters = parameters
        self._statistics: dict[tuple[exp.Expr, ...], PredicateStatistics] = {}
        self._schemas: dict[str, Schema | None] = {}

    def learn(self, predicates: tuple[exp.Expr, ...], statistics: PredicateStatistics) -> None:
        """Remember what was found out about predicates under one AND."""
        self._statistics[predicates] = statistics

    def statistics(self, predicates: tuple[exp.Expr, ...]) -> PredicateStatistics | None:
        """What is known of the predicates with calls under one AND, as they are written."""
        return self._statistics.get(predicates)

    @property
    def approximate(self) -> bool:
        """Whether the user allows that rows of a join are missed."""
        return self._approximate

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values of the statement's parameters by name."""
        return self._parameters

    def columns(self, query: exp.Query) -> Schema | None:
        """Names and types of a query's output, None when it does not bind."""
        return self.schema(naive_text(query, self._calls, BINDING))

    def schema(self, sql: str) -> Schema | None:
        """Names and types of the output of a query given as text, None if it does not bind."""
        if sql not in self._schemas:
            finish(self._connection)
            try:
                self._schemas[sql] = self._bound(sql)
            except duckdb.Error:
                self._schemas[sql] = None
        return self._schemas[sql]

    def _bound(self, sql: str) -> Schema:
        """Bind as a relation: a failing execute() would abort a transaction of the user's."""
        given = used_parameters(self._connection, sql, self._parameters)
        if given:  # a query with parameters is run as soon as it is a relation
            rows = self._connection.sql(f"DESCRIBE {sql}", params=given).fetchall()
            return tuple((row[0], row[1]) for row in rows)
        relation = self._connection.sql(sql)
        return tuple(zip(relation.columns, map(str, relation.types), strict=True))

    def describe(self, sql: str) -> Schema:
        """Names and types of the output of a query. Raises DuckDB's error."""
        given = used_parameters(self._connection, sql, self._parameters)
        rows = self._connection.execute(f"DESCRIBE {sql}", given).fetchall()
        return tuple((row[0], row[1]) for row in rows)

    def one_row(self, sql: str) -> tuple[Any, ...] | None:
        """Run a query without calls and return its first row; None when it fails.

        It may read rows that a guard of the statement would leave out.
        """
        given = used_parameters(self._connection, sql, self._parameters)
        finish(self._connection)
        try:
            return tuple(self._connection.sql(sql, params=given).fetchall()[0])
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            return None

    def number(self, query: exp.Query) -> float | None:
        """The one number that a query without calls gives; None when it fails."""
        row = self.one_row(text(query))
        return None if row is None or row[0] is None else float(row[0])

    def fold(self, node: exp.Expr) -> Any:
        """Evaluate an expression without columns. Raises DuckDB's error."""
        sql = f"SELECT {text(node.copy())}"
        given = used_parameters(self._connection, sql, self._parameters)
        return self._connection.execute(sql, given).fetchall()[0][0]

    def can_plan(self, sql: str) -> bool:
        """Whether this version of DuckDB can plan a form of query; it names no table."""
        return self._facts.can_plan(self._connection, sql)

    def is_never_true(self, condition: exp.Expr) -> bool:
        """Whether a condition without columns and calls is FALSE or NULL."""
        row = self.one_row(f"SELECT ({text(condition)}) IS NOT TRUE")
        return row is not None and bool(row[0])

    def nulls_come_last(self) -> bool:
        """Whether ORDER BY ascends and puts NULLs last where it says nothing of them."""
        sql = "SELECT current_setting('default_null_order'), current_setting('default_order')"
        found = self.one_row(sql)
        return found is not None and [str(v).lower() for v in found] in NULLS_LAST

    def is_aggregate(self, function: str) -> bool:
        """Whether DuckDB knows the function as an aggregate."""
        return self._facts.kind(self._connection, function)[0]

    def is_built_in(self, function: str) -> bool:
        """Whether the function is DuckDB's own, and always the same for the same arguments.

        A macro is not, whatever it is made of: it may call a model, or `random()`.
        """
        row = self.one_row(
            "SELECT count(*) > 0 AND bool_and(internal AND function_type = 'scalar' AND "
            "stability = 'CONSISTENT') FROM duckdb_functions() "
            f"WHERE lower(function_name) = {literal(function.lower())}"
        )
        return row is not None and bool(row[0])

    def is_volatile(self, function: str) -> bool:
        """Whether the function may give another value at each evaluation."""
        return self._facts.kind(self._connection, function)[1]


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
