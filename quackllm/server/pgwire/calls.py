"""The calls of a quackllm connection, from functions without variables of their own.

quackllm looks for tables among the variables of its caller, which must not be the server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quackllm import Connection


def execute(connection: Connection, query: str) -> Any:
    """Run a statement; rows are fetched from what it returns."""
    return connection.execute(query)


def relation(connection: Connection, query: str, values: Mapping[str, Any] | None = None) -> Any:
    """Return DuckDB's relation of a query, bound and not run, or of another statement, run.

    values: of named parameters.
    """
    found = connection.sql(query, params=values)
    native = getattr(type(found), "quackllm_native", None)
    return found if native is None else native(found)


def answered(connection: Connection, query: str) -> Any:
    """Run a query with LLM functions; return DuckDB's relation over its finished rows."""
    found = connection.answered(query)
    rows = found.quackllm_finished()
    return _Kept(rows, found)


class _Kept:
    """A relation together with what keeps its rows."""

    def __init__(self, rows: Any, owner: Any) -> None:
        self._rows, self._owner = rows, owner
        self.columns, self.types = rows.columns, rows.types

    def project(self, items: str) -> Any:
        return self._rows.project(items)

    def sql_query(self) -> Any:
        return self._rows.sql_query()

    def to_arrow_reader(self, size: int) -> Any:
        return self._rows.to_arrow_reader(size)
