"""Runs a program: DuckDB for the rows, the model for the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import duckdb
import pyarrow as pa

from quackllm.engine.catalog import Schema, used_parameters
from quackllm.engine.chunks import in_chunks
from quackllm.engine.early_stop import Fetch, ask_until_enough
from quackllm.engine.first_partner import Database, PartnerSearch
from quackllm.engine.joins.search import PairAsker
from quackllm.engine.run import Run
from quackllm.engine.stage_answers import StageAnswers
from quackllm.engine.transactions import transaction
from quackllm.optimizer.program import BlockStage, MaterializeStage, Program
from quackllm.optimizer.sql import quote


class Executor:
    """Runs programs on one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(
        self,
        program: Program,
        schema: Schema,
        parameters: Mapping[str, Any],
        run: Run,
        part: str = "",
    ) -> str:
        """Run a program; return the name of the temporary table that holds its rows.

        The table's columns are c0, c1, ...; its rows are in the order of the result.
        All stages see one snapshot of the database. part: tells the tables of several
        programs of one statement apart.
        """
        run.number_stages({stage.call.spec: stage.number for stage in program.model_stages})
        run.asker.rows_in_front.plan(program.model_stages)
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
                        made.extend(stage.tables)
                        self._block(stage, parameters, run)
                result = f"__llm_result_{run.id}{part}"
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
        stages = [StageAnswers(self._connection, stage, run) for stage in block.stages]

        def fetch(sql: str) -> pa.Table:
            return self._fetch(sql, parameters)

        if block.partners is not None:
            database = Database(
                lambda name, sql: self._create(name, sql, parameters),
                self._connection.execute,
                fetch,
            )
            search = PartnerSearch(block.partners, stages, database)
            search.begin()
            if self._searched(block, stages, run, fetch):
                search.settle()
            else:
                search.ask()
            return
        if block.stop_after is not None:
            ask_until_enough(block, stages, fetch)
            return
        for part, stage in zip(block.stages, stages, strict=True):
            if stage.is_joint:
                stage.ask(fetch(stage.probe))
                continue
            if part.search is not None and PairAsker(part, stage, run, fetch).ask():
                continue
            waiting = f"{stage.name}_tuples"
            for tuples in in_chunks(self._connection, stage.probe, parameters, waiting):
                stage.ask(tuples)

    def _searched(
        self, block: BlockStage, stages: Sequence[StageAnswers], run: Run, fetch: Fetch
    ) -> bool:
        """Whether a strategy has decided for all rows of a block that look for a partner."""
        if not stages or block.stages[0].search is None:
            return False
        return PairAsker(block.stages[0], stages[0], run, fetch, in_rounds=True).ask()

    def _fetch(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        given = used_parameters(self._connection, sql, parameters)
        return self._connection.sql(sql, params=given).to_arrow_table()


def drop_temporary(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Drop a temporary table of ours, if it is still there and the connection is usable."""
    with suppress(duckdb.Error):
        connection.execute(f"DROP TABLE IF EXISTS temp.{quote(table)}")
