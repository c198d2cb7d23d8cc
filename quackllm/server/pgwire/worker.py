"""What runs in a session's own thread: statements, against quackllm's connection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from quackllm.server.pgwire import calls, types
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.results import Rows, columns_of, formats_for, text_rows
from quackllm.server.pgwire.statements import Kind, Parsed, command_tag, returning
from quackllm.server.pgwire.types import Column
from quackllm.server.pgwire.work import Outcome
from quackllm.server.places import located

if TYPE_CHECKING:
    from quackllm import Connection

READING = frozenset(
    {"SELECT", "EXPLAIN", "TRANSACTION", "SET", "VARIABLE_SET", "PREPARE", "PRAGMA", "CALL"}
    | {"EXECUTE", "RELATION", "LOGICAL_PLAN"}
)
"""Types of DuckDB's statements that leave the database as it is."""

RUN_FOR_ROWS = frozenset({"PIVOT", "UNPIVOT", "CALL", "PRAGMA", "EXECUTE"})
"""First words of statements that are no SELECT to DuckDB and give rows."""

QUERY_PLAN = Column("QUERY PLAN", types.TEXT)


class Worker:
    """Runs the statements of one session, one at a time, in the thread that calls."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._open: Rows | None = None

    def run_plain(self, sql: str) -> None:
        """Run a statement that has no rows: BEGIN, COMMIT, SET."""
        self.free()
        calls.execute(self.connection, sql).fetchall()

    def describe(self, parsed: Parsed) -> tuple[Column, ...] | None:
        """Return the columns of a statement without running it, None when it has no rows."""
        self.free()
        if parsed.kind is Kind.EXPLAIN:
            return (QUERY_PLAN,)
        if parsed.kind is not Kind.DUCKDB:
            return None
        kind = self.statement_type(parsed)
        if kind == "SELECT":
            return columns_of(self._relation(parsed.sql))
        if parsed.statement.first_word in RUN_FOR_ROWS:
            # No model is called by these: PIVOT is written as a SELECT to be described.
            return self._described_otherwise(parsed)
        behind = returning(parsed.statement)
        if behind is None:
            return None
        items, table = parsed.sql[behind:], _target(parsed)
        return columns_of(self._relation(f"SELECT {items} FROM {table}"))

    def _described_otherwise(self, parsed: Parsed) -> tuple[Column, ...]:
        first = parsed.statement.first_word
        if first in ("PIVOT", "UNPIVOT"):
            described = f"SELECT * FROM ({parsed.sql})"
            return columns_of(self._relation(described))
        if first in ("CALL", "PRAGMA"):
            return columns_of(self._relation(parsed.sql))
        raise WireError(
            SqlState.FEATURE_NOT_SUPPORTED,
            "EXECUTE cannot be described without running it",
            hint="Use the driver's own prepared statements.",
        )

    def execute(self, parsed: Parsed, wanted_formats: Sequence[int]) -> Outcome:
        """Run a statement that is DuckDB's or the engine's."""
        self.free()
        if parsed.kind is Kind.EXPLAIN:
            return self._explain(parsed, wanted_formats)
        if parsed.kind is Kind.OURS:
            calls.execute(self.connection, parsed.sql)
            return Outcome(None, _tag_of_ours(parsed))
        kind = self.statement_type(parsed)
        if kind == "SELECT" or parsed.statement.first_word in RUN_FOR_ROWS:
            return self._query(parsed, wanted_formats)
        if parsed.returns_rows:
            relation = self._relation(parsed.sql)
            return self._rows(relation, parsed, wanted_formats)
        found = calls.execute(self.connection, parsed.sql)
        names = [column[0] for column in found.description or ()]
        counted = found.fetchall() if names else []
        count = counted[0][0] if names == ["Count"] and counted else None
        return Outcome(None, command_tag(parsed, count))

    def statement_type(self, parsed: Parsed) -> str:
        """Return DuckDB's name for the type of a statement. Raises its error about syntax."""
        found = self.connection.extract_statements(parsed.sql)
        return str(found[0].type).rpartition(".")[2].rstrip(">").partition(":")[0] if found else ""

    def has_calls(self, parsed: Parsed) -> bool:
        """Whether a statement calls a model, itself or by a view or a macro."""
        return self.connection.calls_model(parsed.sql)

    def show(self, rows: Rows) -> Outcome:
        """Make rows from elsewhere the open result."""
        self.free()
        self._open = rows
        return Outcome(rows)

    def _query(self, parsed: Parsed, wanted_formats: Sequence[int]) -> Outcome:
        if self.has_calls(parsed):  # SUMMARIZE too, of a view with calls
            relation = calls.answered(self.connection, parsed.sql)
        else:
            relation = self._relation(parsed.sql)
        if relation is None:
            return Outcome(None, command_tag(parsed, None))
        return self._rows(relation, parsed, wanted_formats)

    def _rows(self, relation: Any, parsed: Parsed, wanted_formats: Sequence[int]) -> Outcome:
        columns = columns_of(relation)
        rows = Rows(columns, relation, formats_for(wanted_formats, len(columns)))
        self._open = rows
        return Outcome(rows, command_tag(parsed, 0).rpartition(" ")[0], counted=True)

    def _explain(self, parsed: Parsed, wanted_formats: Sequence[int]) -> Outcome:
        found = calls.execute(self.connection, parsed.sql).fetchall()
        text = "\n".join(str(row[-1]).rstrip("\n") for row in found)
        lines = [text] if _is_json(text) else text.split("\n")
        form = formats_for(wanted_formats, 1)[0]
        rows = text_rows([(QUERY_PLAN.name, QUERY_PLAN.type)], [[line] for line in lines], form)
        self._open = rows
        return Outcome(rows, "EXPLAIN")

    def _relation(self, sql: str) -> Any:
        """Bind a query. Raises DuckDB's error, with the place where it is if it can be found."""
        try:
            return calls.relation(self.connection, sql)
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise located(self.connection, error, sql) from None

    def free(self) -> None:
        """Let go of the connection, which DuckDB gives to one result at a time."""
        if self._open is not None:
            self._open.hold()
            self._open = None

    def drop(self) -> None:
        """Give up the open result."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _tag_of_ours(parsed: Parsed) -> str:
    first = parsed.words[0]
    return f"{first} MODEL" if first in ("CREATE", "DROP") else first


def _target(parsed: Parsed) -> str:
    """Return the table that an INSERT, UPDATE, DELETE or MERGE is about, as it is written."""
    statement = parsed.statement
    before = {"INSERT": "INTO", "DELETE": "FROM", "MERGE": "INTO", "UPDATE": "UPDATE"}
    words = list(parsed.words)
    for position, word in enumerate(words):
        if word in before:
            start = words.index(before[word], position) + 1
            break
    end = start + 1
    while end < len(words) and words[end] == ".":
        end += 2
    tokens = statement.tokens
    first = tokens[start].start - statement.offset
    return statement.sql[first : tokens[end - 1].end + 1 - statement.offset]
