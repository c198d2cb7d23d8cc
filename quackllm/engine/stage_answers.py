"""The answers of one model stage, as DuckDB sees them."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from quackllm.engine.run import SEPARATOR, Run
from quackllm.optimizer.program import ModelStage
from quackllm.udfs.base import Embedding
from quackllm.udfs.vectors import as_lists

MOST_LOOKED_UP = 10_000
"""Argument tuples of which it is found out beforehand whether they are answered."""


class StageAnswers:
    """The answers of one stage so far, registered with DuckDB under the stage's name."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, stage: ModelStage, run: Run) -> None:
        self._connection = connection
        self._stage = stage
        self._run = run
        self._table = self._answered(pa.array([], pa.string()), pa.array([], pa.string()))

    @property
    def name(self) -> str:
        """The name under which DuckDB sees the answers."""
        return self._stage.answers

    @property
    def probe(self) -> str:
        """SQL of the argument tuples: columns of the fields first."""
        return self._stage.probe

    @property
    def is_joint(self) -> bool:
        """Whether all tuples are to be asked at once."""
        return self._stage.is_joint

    def ask(self, tuples: pa.Table) -> pa.Array:
        """Answer the tuples, make all answers so far visible to DuckDB, and return these."""
        call = self._stage.call
        fields = string_columns(tuples, len(call.fields))
        answers = self._run.answer(call, fields, tuples.num_rows, self._stage.wanted)
        self.settle(tuples, answers)
        return answers

    def settle(self, tuples: pa.Table, answers: pa.Array) -> None:
        """Take texts (rows,) as the answers to the tuples, and make them visible to DuckDB."""
        fields = string_columns(tuples, len(self._stage.call.fields))
        found = self._answered(_keys(fields, tuples.num_rows), answers)
        # A later round finds the tuples of earlier ones again; a key that stood twice
        # would double the rows that it is joined to.
        found = found.filter(pc.invert(pc.is_in(found["k"], self._table["k"])))
        self._table = pa.concat_tables([self._table, found]) if self._table.num_rows else found
        self.register()

    def _answered(self, keys: pa.Array, answers: pa.Array) -> pa.Table:
        """The table of some answers: of texts that DuckDB casts, vectors as they are."""
        form = self._stage.call.declaration.answer
        if isinstance(form, Embedding):
            assert form.dimensions is not None
            answers = as_lists(answers.to_pylist(), form.dimensions)
        return pa.table({"k": keys, "v": answers})

    def register(self) -> None:
        """Make the answers so far visible to DuckDB."""
        self._connection.register(self._stage.answers, self._table)

    def unanswered(self, tuples: pa.Table) -> pa.Table:
        """The tuples that were not asked yet."""
        if not self._table.num_rows:
            return tuples
        fields = string_columns(tuples, len(self._stage.call.fields))
        asked = pc.is_in(_keys(fields, tuples.num_rows), self._table["k"].combine_chunks())
        return tuples.filter(pc.invert(asked))

    def remembered_first(self, tuples: pa.Table) -> pa.Table:
        """The tuples, in front those whose answers are there already: they cost nothing.

        Only the first ones are looked up, since that takes time too.
        """
        call, near = self._stage.call, tuples.slice(0, MOST_LOOKED_UP)
        known = self._run.remembered(call, string_columns(near, len(call.fields)), near.num_rows)
        if not any(known):
            return tuples
        order = sorted(range(len(known)), key=lambda row: not known[row])
        return pa.concat_tables([near.take(order), tuples.slice(MOST_LOOKED_UP)])


def _keys(fields: list[pa.Array], rows: int) -> pa.Array:
    if not fields:
        return pa.array([""] * rows, pa.string())
    return pc.binary_join_element_wise(*fields, SEPARATOR)


def string_columns(table: pa.Table, count: int) -> list[pa.Array]:
    """Return the first columns of a table as one string array each."""
    arrays = []
    for number in range(count):
        column = table.column(number).combine_chunks()
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        arrays.append(array.cast(pa.string()))
    return arrays
