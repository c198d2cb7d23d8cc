"""The two connections that a file is replayed through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import duckdb

import quackllm
from quackllm.engine.engine import Engine
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.session import Session
from quackllm.engine.settings import Settings
from quackllm.engine.statement import holds_calls
from quackllm.testing import FakeProvider


@dataclass(frozen=True)
class Answer:
    """What a statement gave: rows, names and types; or DuckDB's error."""

    rows: tuple[tuple[Any, ...], ...] = ()
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    error: duckdb.Error | None = None


class Side(Protocol):
    """A way of running statements."""

    name: str

    def run(self, sql: str, connection: str = "") -> Answer:
        """Run a statement or a script, on the main connection or one of a name."""

    def open(self, database: str) -> None:
        """Leave the database and open another; ':memory:' is a fresh one."""

    def reconnect(self) -> None:
        """Go on with a new connection to the same database."""

    def close(self) -> None:
        """Close the database."""


class _Connections:
    """Connections by name, '' for the main one."""

    name = ""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {"": self._connect(":memory:")}

    def _connect(self, database: str) -> Any:
        raise NotImplementedError

    def _execute(self, connection: Any, sql: str) -> Any:
        return connection.execute(sql)

    def run(self, sql: str, connection: str = "") -> Answer:
        if connection not in self._open:
            self._open[connection] = self._open[""].cursor()
        try:
            cursor = self._execute(self._open[connection], sql)
            described = cursor.description or ()
            rows = cursor.fetchall() if described else []
        except duckdb.Error as error:
            return Answer(error=error)
        return Answer(
            tuple(rows),
            tuple(str(column[0]) for column in described),
            tuple(str(column[1]) for column in described),
        )

    def open(self, database: str) -> None:
        self.close()
        self._open = {"": self._connect(database)}

    def reconnect(self) -> None:
        for name in [name for name in self._open if name]:
            self._open.pop(name).close()
        self._open["reconnected"] = self._open[""]
        self._open[""] = self._open["reconnected"].cursor()

    def close(self) -> None:
        for connection in reversed(list(self._open.values())):
            connection.close()
        self._open = {}


class Planned(_Connections):
    """Through quackllm, on the fake provider."""

    name = "quackllm"

    def _connect(self, database: str) -> Any:
        return quackllm.connect(database, provider=FakeProvider(), progress=False)


class Plain(_Connections):
    """Plain DuckDB; LLM functions as the scalar function that each row calls."""

    name = "duckdb"

    def _connect(self, database: str) -> Any:
        connection = duckdb.connect(database)
        self._engine = Engine(provider=FakeProvider())
        register_scalar_function(connection, self._engine, Settings)
        return connection

    def _execute(self, connection: Any, sql: str) -> Any:
        if holds_calls(sql, self._engine.functions):
            session = Session(connection, self._engine)
            is_query = sql.lstrip().upper().startswith(("SELECT", "WITH", "FROM"))
            sql = session.naive_query(sql) if is_query else session.naive_expression(sql)
        return connection.execute(sql)

    def close(self) -> None:
        self._engine.close()
        super().close()
