"""Rows of finished statements, as the engine keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from quackllm.engine.catalog import Schema
from quackllm.optimizer.sql import quote


@dataclass(frozen=True)
class StoredResult:
    """Rows of a finished query: a temporary table, and the SQL that reads it."""

    table: str
    schema: Schema

    @property
    def sql(self) -> str:
        """SELECT of the rows under their names, in their order."""
        columns = (f"c{i} AS {quote(name)}" for i, (name, _) in enumerate(self.schema))
        return f"SELECT {', '.join(columns)} FROM temp.{quote(self.table)}"
