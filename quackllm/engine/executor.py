"""Runs a program: DuckDB for the rows, the model for the answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from quackllm.engine.catalog import Schema, used_parameters
from quackllm.engine.chunks import in_chunks
from quackllm.engine.run import SEPARATOR, Run
from quackllm.engine.transactions import transaction
from quackllm.optimizer.program import BlockStage, MaterializeStage, ModelStage, Program
from quackllm.optimizer.sql import quote

FIRST_BATCH = 16
"""Argument tuples that an early stop asks for first, or the rows wanted if those are more."""


class Executor:
    """Runs programs on one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(
        self, program: Program, schema: Schema, parameters: Mapping[str, Any], run: Run
    ) -> str:
        """Run a program; return the name of the temporary table that holds its rows.

        The table's columns are c0, c1, ...; its rows are in the order of the result.
        All stages see one snapshot of the database.
        """
        run.number_stages({stage.call.spec: stage.number for stage in program.model_stages})
        made: list[str] = []
        registered: list[str] = []
        try:
            with transaction(self._connection):
                for stage in program.stages:
                    if isinstance(stage, MaterializeStage):
                        self._create(stage.table, stage.sql, parameters)
                        made.append(stage.table)
                    else:
                        registered.extend(part.answers for part in stage.stages)
                        self._block(stage, parameters, run)
                result = f"__llm_result_{run.id}"
                columns = ", ".join(f"c{i}" for i in range(len(schema)))
                self._create(result, f"SELECT * FROM ({program.final}) AS r({columns})", parameters)
                return result
        finally:
            for name in registered:
                with suppress(duckdb.Error):  # gone with a transaction that was rolled back
                    self._connection.unregister(name)
            for name in made:
                drop_temporary(self._connection, name)

    def _create(self, table: str, sql: str, parameters: Mapping[str, Any]) -> None:
        statement = f"CREATE TEMP TABLE {quote(table)} AS {sql}"
        given = used_parameters(self._connection, statement, parameters)
        self._connection.execute(statement, given)

    def _block(self, block: BlockStage, parameters: Mapping[str, Any], run: Run) -> None:
        asked = {stage.number: _Answers(self._connection, stage, run) for stage in block.stages}
        if block.stop_after is None or block.count is None:
            for stage in block.stages:
                waiting = f"{stage.answers}_tuples"
                for tuples in in_chunks(self._connection, stage.probe, parameters, waiting):
                    asked[stage.number].ask(tuples)
            return
        first, *others = block.stages
        for answers in asked.values():
            answers.register()
        tuples = self._tuples(first, parameters)
        done, size = 0, max(block.stop_after, FIRST_BATCH)
        while done < tuples.num_rows:
            count = self._fetch(block.count, parameters).column(0)[0].as_py()
            if count >= block.stop_after:
                return
            asked[first.number].ask(tuples.slice(done, size))
            done, size = done + size, 2 * size
            for stage in others:
                asked[stage.number].ask(self._tuples(stage, parameters))

    def _tuples(self, stage: ModelStage, parameters: Mapping[str, Any]) -> pa.Table:
        return self._fetch(stage.probe, parameters)

    def _fetch(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        given = used_parameters(self._connection, sql, parameters)
        return self._connection.sql(sql, params=given).to_arrow_table()


class _Answers:
    """The answers of one stage, registered with DuckDB under the stage's name."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, stage: ModelStage, run: Run) -> None:
        self._connection = connection
        self._stage = stage
        self._run = run
        self._table = pa.table({"k": pa.array([], pa.string()), "v": pa.array([], pa.string())})

    def ask(self, tuples: pa.Table) -> None:
        """Answer the tuples, and make all answers so far visible to DuckDB."""
        call = self._stage.call
        fields = string_columns(tuples, len(call.fields))
        answers = self._run.answer(call, fields, tuples.num_rows)
        if fields:
            keys = pc.binary_join_element_wise(*fields, SEPARATOR)
        else:
            keys = pa.array([""] * tuples.num_rows, pa.string())
        found = pa.table({"k": keys, "v": answers})
        # A later round finds the tuples of earlier ones again; a key that stood twice
        # would double the rows that it is joined to.
        found = found.filter(pc.invert(pc.is_in(found["k"], self._table["k"])))
        self._table = pa.concat_tables([self._table, found]) if self._table.num_rows else found
        self.register()

    def register(self) -> None:
        """Make the answers so far visible to DuckDB."""
        self._connection.register(self._stage.answers, self._table)


def string_columns(table: pa.Table, count: int) -> list[pa.Array]:
    """Return the first columns of a table as one string array each."""
    arrays = []
    for number in range(count):
        column = table.column(number).combine_chunks()
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        arrays.append(array.cast(pa.string()))
    return arrays


def drop_temporary(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Drop a temporary table of ours, if it is still there and the connection is usable."""
    with suppress(duckdb.Error):
        connection.execute(f"DROP TABLE IF EXISTS temp.{quote(table)}")
