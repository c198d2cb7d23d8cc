"""Temporary tables and views of ours that wait to be dropped."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import duckdb

from quackllm.engine.transactions import in_transaction
from quackllm.engine.variables import scannable
from quackllm.optimizer.sql import quote


class Leftovers:
    """What results and relations of one connection leave behind.

    Things are added when nothing refers to them any more, from any thread, and dropped
    before the next statement: a reader may still be open on them until then.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._tables: list[str] = []
        self._views: list[str] = []
        self._numbers = count(1)

    def add_table(self, name: str) -> None:
        """Have a temporary table dropped."""
        self._tables.append(name)

    def add_views(self, names: tuple[str, ...]) -> None:
        """Have registered objects forgotten."""
        self._views.extend(names)

    def register_sources(self, variables: Mapping[str, Any]) -> dict[str, str]:
        """Register Python objects under names that nobody else has; return those."""
        names = {variable: f"__llm_source_{next(self._numbers)}" for variable in variables}
        for variable, value in variables.items():
            self._connection.register(names[variable], scannable(value))
        return names

    def drop(self) -> None:
        """Drop what waits. In an aborted transaction it goes on waiting."""
        if not self._tables and not self._views:
            return
        try:
            # Dropped in a transaction, it is back when that is rolled back.
            inside = in_transaction(self._connection)
            tables, views = list(self._tables), list(self._views)
            for table in tables:
                self._connection.execute(f"DROP TABLE IF EXISTS temp.{quote(table)}")
            for view in views:
                self._connection.unregister(view)
        except duckdb.Error:
            return
        if not inside:
            self._tables = self._tables[len(tables) :]
            self._views = self._views[len(views) :]
