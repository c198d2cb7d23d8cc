"""One DuckDB shell in the engine: its settings, its calls, its statements."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import quackllm
from quackllm.engine.clear_cache import is_clear_cache
from quackllm.engine.commands import is_command
from quackllm.engine.secrets import is_secret_command
from quackllm.engine.statement import Statement, explain_of, is_query, split
from quackllm.errors import BindError
from quackllm.optimizer.sql import literal
from quackllm.server.duckdb_shell import vectors
from quackllm.server.duckdb_shell.arguments import Argument, Group, groups_of
from quackllm.server.duckdb_shell.lanes import Lane, Lanes
from quackllm.server.duckdb_shell.tables import Ask, copies, placed
from quackllm.server.pgwire import calls

ROWS_PER_FRAME = 2048
"""DuckDB's vectors hold so many."""

MOST_AT_ONCE = 32
"""Calls with different prompts that a chunk of rows makes at once."""

SET_FUNCTION = "llm_set"
"""The SQL function that changes a setting."""

Columns = tuple[tuple[str, vectors.Type], ...]

EXPLAINED: Columns = (("plan", vectors.VARCHAR),)
"""A row for each line, since a shell shows a text of several lines as one; JSON is one row."""

STATUS: Columns = (("status", vectors.VARCHAR),)

OnInterrupt = Callable[[Callable[[], None]], None]
"""Is given what ends the work in hand, should the shell hang up."""


@dataclass(frozen=True)
class Result:
    """The rows of a statement that has run."""

    columns: Columns
    rows: pa.Table

    def frames(self) -> Iterator[tuple[int, list[pa.Array]]]:
        """Yield the rows in parts that fit into a vector of DuckDB's."""
        for batch in self.rows.to_batches(max_chunksize=ROWS_PER_FRAME):
            if batch.num_rows:
                yield batch.num_rows, batch.columns


class Session:
    """What a shell has set and what it runs; used from one thread per connection."""

    def __init__(self, folder: str, remembered: Sequence[str]) -> None:
        """Begin a session.

        folder: the shell's working directory, where relative paths of files begin.
        remembered: statements that changed settings, of a session that an engine before
            this one had.
        """
        config = {"python_enable_replacements": "false", "file_search_path": folder}
        self._connection = quackllm.connect(config=config, progress=False)
        self._lanes = Lanes(self._connection.llm_engine, lambda: self._connection.llm_settings)
        self._statements = threading.Lock()
        for sql in remembered:
            calls.execute(self._connection, sql)

    def close(self) -> None:
        """End calls and statements."""
        self._lanes.close()
        self._connection.close()

    def tidy(self) -> None:
        """End what lingers."""
        self._lanes.tidy()

    # Calls that DuckDB makes itself

    def call(
        self,
        renderer: duckdb.DuckDBPyConnection,
        name: str,
        arguments: Sequence[Argument],
        on_interrupt: OnInterrupt,
    ) -> pa.Array:
        """Answer a call for the rows of a chunk, as canonical texts.

        renderer: a connection of the calling thread's own.
        """
        engine = self._connection.llm_engine
        groups = groups_of(renderer, engine.functions, name, arguments)
        if not groups:
            return pa.array([], pa.string())
        lanes = [self._lanes.enter(group.call) for group in groups]
        on_interrupt(lambda: _interrupt(lanes))
        answers = _answered_at_once(lanes, groups)
        if len(groups) == 1:
            return answers[0]
        back = np.argsort(np.concatenate([group.rows for group in groups]))
        return pa.concat_arrays(answers).take(pa.array(back))

    # Statements of FROM llm('...')

    def remembers(self, sql: str) -> bool:
        """Whether a statement changes settings, which a new engine would have to know."""
        [statement] = _one(sql)
        return self._is_command(statement) and not is_clear_cache(statement)

    def describe(self, sql: str, ask: Ask) -> Columns:
        """Return the columns of a statement; no model is called, and nothing is changed."""
        [statement] = _one(sql)
        if explain_of(statement) is not None:
            return EXPLAINED
        if self._is_command(statement):
            return STATUS
        self._check_query(statement)
        tables = copies(statement, ask, with_rows=False)
        with self._statements, placed(self._connection, tables):
            return _columns(calls.relation(self._connection, sql))

    def run(self, sql: str, ask: Ask, on_interrupt: OnInterrupt) -> Result:
        """Run a statement to its end.

        The shell is asked for its tables before the statement has its turn: what it runs for
        them may be a view over another such statement.
        """
        [statement] = _one(sql)
        if self._is_command(statement):
            return self._command(statement, on_interrupt)
        tables = copies(statement, ask, with_rows=True)
        with self._statements:
            on_interrupt(self._connection.interrupt)
            with placed(self._connection, tables):
                explain = explain_of(statement)
                if explain is None:
                    return self._query(statement)
                rows = calls.execute(self._connection, sql).fetchall()
                return _explained(rows, as_json=explain.json)

    def _command(self, statement: Statement, on_interrupt: OnInterrupt) -> Result:
        with self._statements:
            on_interrupt(self._connection.interrupt)
            found = calls.execute(self._connection, statement.sql).fetchall()
        status = str(found[0][0]) if is_clear_cache(statement) and found else "done"
        return Result(STATUS, pa.table({"status": [status]}))

    def _query(self, statement: Statement) -> Result:
        self._check_query(statement)
        calls_model = self._connection.calls_model(statement.sql)
        answer = calls.answered if calls_model else calls.relation
        relation = answer(self._connection, statement.sql)
        columns = _columns(relation)
        items = ", ".join(
            f"CAST(#{i} AS {type_.sql}) AS c{i}" if str(given) != type_.sql else f"#{i} AS c{i}"
            for i, ((_, type_), given) in enumerate(zip(columns, relation.types, strict=True), 1)
        )
        return Result(columns, relation.project(items).to_arrow_reader(100_000).read_all())

    def _check_query(self, statement: Statement) -> None:
        """Raise DuckDB's error about syntax, or ours about a statement that changes something."""
        if not is_query(statement):
            self._connection.extract_statements(statement.sql)
            raise BindError(
                "llm(statement) takes a query, an EXPLAIN, or a statement about settings, models "
                f"or secrets, not {statement.first_word}. To keep rows: CREATE TABLE t AS FROM "
                "llm('SELECT ...')"
            )

    def _is_command(self, statement: Statement) -> bool:
        secrets = self._connection.llm_engine.secrets
        return (
            is_command(statement)
            or is_secret_command(statement, secrets)
            or is_clear_cache(statement)
        )


def setting(name: Any, value: Any) -> str:
    """Write the SET that llm_set(name, value) stands for. Raises `BindError`."""
    if not isinstance(name, str) or not name.lower().startswith("llm_"):
        raise BindError(f"llm_set(name, value): {name!r} is no setting of quackllm")
    if not name.replace("_", "").isalnum():
        raise BindError(f"llm_set(name, value): {name!r} is no name")
    return f"RESET {name}" if value is None else f"SET {name} = {literal(str(value))}"


def _interrupt(lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        lane.interrupt()


def _answered_at_once(lanes: Sequence[Lane], groups: Sequence[Group]) -> list[pa.Array]:
    """Answer groups of rows, each in its lane, side by side."""
    if len(groups) == 1:
        return [lanes[0].answer(groups[0].fields, len(groups[0].rows))]
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        asked = [
            pool.submit(lane.answer, group.fields, len(group.rows))
            for lane, group in zip(lanes, groups, strict=True)
        ]
        return [each.result() for each in asked]


def _one(sql: str) -> list[Statement]:
    statements = split(sql)
    if len(statements) != 1:
        raise BindError(f"llm(statement) takes one statement, not {len(statements)}")
    return statements


def _columns(relation: Any) -> Columns:
    pairs = zip(relation.columns, relation.types, strict=True)
    return tuple((name, vectors.type_of(type_)) for name, type_ in pairs)


def _explained(rows: Sequence[Sequence[Any]], *, as_json: bool) -> Result:
    plans = [str(row[-1]) for row in rows]
    lines = plans if as_json else [line for plan in plans for line in plan.splitlines()]
    return Result(EXPLAINED, pa.table({"plan": lines}))
