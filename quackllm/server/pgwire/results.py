"""Results on their way to a client: batches of rows that become bytes as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from quackllm.server.pgwire.encoding import ARROW, BINARY, TEXT, encode_rows
from quackllm.server.pgwire.errors import SqlState, WireError, moved_up, of_stream
from quackllm.server.pgwire.types import Column, Sql, WireType, arrow_sql_type, wire_type

_OF_STREAMS = (duckdb.Error, pa.ArrowException, OSError)
"""What reading DuckDB's rows as a stream of Arrow may raise."""

BATCH_ROWS = 20_480
"""Rows that are encoded and sent at a time."""


@dataclass(frozen=True)
class Chunk:
    """Some rows as bytes; done when no more will come."""

    data: list[bytes]
    rows: int
    done: bool


class Rows:
    """The rows of one result, from a DuckDB relation or a table, read once, forwards.

    A relation is read as the rows are wanted. `hold` reads the rest into memory, which
    frees the connection for another statement.
    """

    def __init__(self, columns: Sequence[Column], relation: Any, formats: Sequence[int]) -> None:
        """Make a result of a DuckDB relation; formats has one entry per column."""
        self.columns = tuple(columns)
        self.formats = tuple(formats)
        self._relation: Any = relation  # keeps what it reads from alive
        self._rest: pa.RecordBatch | None = None
        self._sent = converted(relation, columns, formats)
        try:
            reader = self._sent.to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            raise self._told(error) from None
        self._batches: Iterator[pa.RecordBatch] = iter(reader)
        self._held = False
        self._schema = reader.schema

    @classmethod
    def of_table(cls, columns: Sequence[Column], table: pa.Table, formats: Sequence[int]) -> Rows:
        """Make a result of values that we have ourselves, as text or numbers."""
        rows = cls.__new__(cls)
        rows.columns, rows.formats = tuple(columns), tuple(formats)
        rows._relation = rows._rest = rows._sent = None
        rows._batches = iter(table.combine_chunks().to_batches())
        rows._held = True
        rows._schema = table.schema
        return rows

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of what `batches` yields, under the columns' names."""
        named = zip(self._schema, self.columns, strict=True)
        return pa.schema([field.with_name(column.name) for field, column in named])

    def take(self, limit: int = 0) -> Chunk:
        """Encode the next rows: a batch of them or, with a limit, at most so many."""
        batch = self._next()
        if batch is None:
            return Chunk([], 0, True)
        if limit and batch.num_rows > limit:
            self._rest, batch = batch.slice(limit), batch.slice(0, limit)
        data = encode_rows(batch, self.columns, self.formats)
        return Chunk(data, batch.num_rows, False)

    def part(self, count: int, formats: Sequence[int]) -> Rows:
        """Take the next rows out, as a result of their own in formats of its own."""
        taken, left = [], count
        while left and (batch := self._next()) is not None:
            if batch.num_rows > left:
                self._rest, batch = batch.slice(left), batch.slice(0, left)
            taken.append(batch)
            left -= batch.num_rows
        part = Rows.__new__(Rows)
        part.columns, part.formats = self.columns, self.formats
        part._relation = part._rest = part._sent = None
        part._batches, part._held, part._schema = iter(taken), True, self._schema
        if tuple(formats) != self.formats:
            raise WireError(
                SqlState.FEATURE_NOT_SUPPORTED,
                "a cursor's rows come in the format of its first FETCH",
            )
        return part

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield what is left, not encoded."""
        while (batch := self._next()) is not None:
            yield batch

    def skip(self, count: int) -> int:
        """Pass over rows; return how many there were."""
        passed = 0
        while passed < count and (batch := self._next()) is not None:
            wanted = min(count - passed, batch.num_rows)
            passed += wanted
            if wanted < batch.num_rows:
                self._rest = batch.slice(wanted)
        return passed

    def hold(self) -> None:
        """Read what is left into memory. Raises DuckDB's error about these rows, once."""
        if not self._held:
            self._batches = iter(list(iter(self._read, None)))
            self._held, self._relation = True, None

    def close(self) -> None:
        """Give up what is left."""
        self._batches, self._rest, self._relation, self._held = iter(()), None, None, True

    def _next(self) -> pa.RecordBatch | None:
        if self._rest is not None:
            batch, self._rest = self._rest, None
            return batch
        while (batch := self._read()) is not None:
            if batch.num_rows:
                return batch
        self._held, self._relation = True, None
        return None

    def _read(self) -> pa.RecordBatch | None:
        try:
            return next(self._batches, None)
        except _OF_STREAMS as error:
            failure = self._told(error)
            self.close()  # else whoever frees the connection would meet the error again
            raise failure from None

    def _told(self, error: Exception) -> Exception:
        """Return an error of the rows as DuckDB's, its place counted in the relation's text."""
        found = of_stream(error)
        if self._sent is self._relation or self._relation is None:
            return found
        return moved_up(found, _lines_before(self._sent, self._relation))


def _lines_before(projected: Any, relation: Any) -> int | None:
    """How many lines DuckDB has put before the text of a relation; None if it is not there."""
    head, found, _ = str(projected.sql_query()).partition(str(relation.sql_query()))
    return head.count("\n") if found else None


def converted(relation: Any, columns: Sequence[Column], formats: Sequence[int]) -> Any:
    """Have DuckDB write those columns that the encoder does not take as they are."""
    sent = zip(columns, relation.types, formats, strict=True)
    makers = [_maker(column, kind, form) for column, kind, form in sent]
    if not any(makers):
        return relation
    items = (
        f"{f'#{i}' if maker is None else maker(f'#{i}')} AS c{i}"
        for i, maker in enumerate(makers, 1)
    )
    return relation.project(", ".join(items))


def _maker(column: Column, kind: Any, form: int) -> Sql | None:
    if form == ARROW:
        wanted = column.sql_type
        return None if wanted == str(kind) else lambda value: f"CAST({value} AS {wanted})"
    return column.type.text_sql if form == TEXT else column.type.binary_sql


def columns_of(relation: Any) -> tuple[Column, ...]:
    """Return the columns of a relation as the client sees them."""
    return tuple(
        Column(name, wire_type(kind), arrow_sql_type(kind))
        for name, kind in zip(relation.columns, relation.types, strict=True)
    )


def formats_for(wanted: Sequence[int], columns: int) -> tuple[int, ...]:
    """Spread the formats of a Bind over values: none is text, one is for all.

    Raises `WireError` for any other number than that of the values.
    """
    if len(wanted) == 0:
        return (TEXT,) * columns
    if len(wanted) == 1:
        return (wanted[0],) * columns
    if len(wanted) != columns:
        raise WireError(
            SqlState.PROTOCOL_VIOLATION, f"{len(wanted)} formats were given for {columns} values"
        )
    return tuple(wanted)


def text_rows(
    columns: Sequence[tuple[str, WireType]], rows: Sequence[Sequence[str | None]], form: int
) -> Rows:
    """Make a result of texts that the server says itself."""
    arrays = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(columns))]
    table = pa.Table.from_arrays(arrays, names=[f"c{i}" for i in range(len(columns))])
    named = [Column(name, kind) for name, kind in columns]
    return Rows.of_table(named, table, (form,) * len(columns))


__all__ = [
    "ARROW",
    "BINARY",
    "TEXT",
    "Chunk",
    "Rows",
    "columns_of",
    "converted",
    "formats_for",
    "text_rows",
]
