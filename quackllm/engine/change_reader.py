"""Which parts of a statement that is no query are planned: what a change asks, and about what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quackllm.engine.changes import Change, Uncut, read_change, whole_change
from quackllm.engine.clauses import Clauses
from quackllm.engine.explain import Parts
from quackllm.engine.inserts import read_insert
from quackllm.engine.merges import read_merge
from quackllm.engine.planner import Planner
from quackllm.engine.returning import Returning, cut_returning
from quackllm.engine.statement import Statement, inner_query, is_change

DOES_NOT_BIND = "DuckDB binds no query that finds its rows and what they take"
IN_RETURNING = "the call is in RETURNING, beside what only DuckDB computes there"
BESIDE = "the call is beside the query of the statement"


@dataclass(frozen=True)
class ChangeReader:
    """Reads statements that change a table.

    planner: describes queries. may_call: whether a part of a statement may call a model.
    """

    planner: Planner
    may_call: Callable[[str], bool]

    def change_of(
        self, statement: Statement, parameters: Mapping[str, Any]
    ) -> Change | Uncut | None:
        """Cut a change of a table whose calls can be planned; None where it calls nothing itself.

        None also for what has its calls in a query that can be planned alone, such as INSERT ...
        SELECT. `Uncut` also for what does not bind: DuckDB says best what is wrong with it.
        """
        body, returning = cut_returning(statement)
        change = self._cut(body, parameters)
        asks_after = returning is not None and self.may_call(returning.items)
        if change is None and asks_after:
            change = whole_change(body, self.may_call)
        if not isinstance(change, Change):
            return change
        if change.source is not None and not self._binds(change.binds or change.source, parameters):
            return Uncut(DOES_NOT_BIND)
        if returning is not None and asks_after:
            asks_after = self._is_query_over_rows(returning, parameters)
            if change.source is None and not asks_after:
                return Uncut(IN_RETURNING)
        return replace(change, returning=returning, asks_after=asks_after)

    def parts_of(self, statement: Statement, parameters: Mapping[str, Any]) -> Parts | None:
        """What of a statement that is no query is planned; None where nothing of it runs."""
        change = self.change_of(statement, parameters)
        if isinstance(change, Change):
            after = change.returning if change.asks_after else None
            left = change.returning if not change.asks_after else None
            stays = left is not None and self.may_call(left.items)
            return Parts(
                change.source,
                "" if after is None else after.over(after.any_rows),
                (IN_RETURNING,) if stays else (),
            )
        span = inner_query(statement)
        start, end = span or (0, 0)
        query = statement.sql[start:end]
        if not self.may_call(query):
            query, start, end = "", 0, 0
        beside = f"{statement.sql[:start]} {statement.sql[end:]}"
        reason = BESIDE if change is None else change.reason
        if is_change(statement) and self.may_call(beside):
            return Parts(query or None, "", (reason,))
        return Parts(query) if query else None

    def _cut(self, body: Statement, parameters: Mapping[str, Any]) -> Change | Uncut | None:
        """Cut a change without its RETURNING."""
        clauses, types = Clauses(body), self.planner.column_types

        def names(query: str) -> tuple[str, ...] | None:
            return self.planner.names(query, parameters)

        return (
            read_change(clauses, self.may_call, types)
            or read_merge(clauses, self.may_call, types, names)
            or read_insert(clauses, self.may_call, types)
        )

    def _binds(self, query: str, parameters: Mapping[str, Any]) -> bool:
        return self.planner.names(query, parameters) is not None

    def _is_query_over_rows(self, returning: Returning, parameters: Mapping[str, Any]) -> bool:
        """Whether what RETURNING lists is the select list of a query over the changed rows."""
        is_list = self.planner.is_list_of_rows(returning.items)
        return is_list and self._binds(returning.over(returning.any_rows), parameters)
