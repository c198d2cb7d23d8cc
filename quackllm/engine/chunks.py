"""The argument tuples of a stage, some at a time, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import duckdb
import pyarrow as pa

from quackllm.engine.catalog import used_parameters
from quackllm.optimizer.sql import quote

CHUNK = 100_000
"""Argument tuples that are rendered, ordered and sent as one round. Orders of more than
these would hardly find longer shared prefixes: each round has its own."""


_NUMBER = "__llm_number"


def in_chunks(
    connection: duckdb.DuckDBPyConnection,
    probe: str,
    parameters: Mapping[str, Any],
    name: str,
    size: int = CHUNK,
) -> Iterator[pa.Table]:
    """Give the rows of a query, at most `size` at a time; one table without rows for none.

    Rows that fit into one chunk are given as they come. More wait in the temporary table
    `name`, which DuckDB writes to disk when its memory is short: the connection has to be
    free while a chunk is worked on.
    """
    given = used_parameters(connection, probe, parameters)
    all_rows = _if_few(connection.sql(probe, params=given).to_arrow_reader(size), size)
    if all_rows is not None:
        yield all_rows
        return
    waiting = f"temp.{quote(name)}"
    # rowid would do, but what a transaction has written itself is numbered otherwise.
    numbered = f"SELECT *, row_number() OVER () AS {_NUMBER} FROM ({probe})"
    create = f"CREATE TEMP TABLE {quote(name)} AS {numbered}"
    connection.execute(create, used_parameters(connection, create, parameters))
    try:
        [(rows,)] = connection.execute(f"SELECT count(*) FROM {waiting}").fetchall()
        for first in range(0, rows, size):
            part = f"WHERE {_NUMBER} > {first} AND {_NUMBER} <= {first + size}"
            sql = f"SELECT * EXCLUDE ({_NUMBER}) FROM {waiting} {part}"
            yield connection.sql(sql).to_arrow_table()
    finally:
        with suppress(duckdb.Error):  # gone with a transaction that was rolled back
            connection.execute(f"DROP TABLE IF EXISTS {waiting}")


def _if_few(reader: pa.RecordBatchReader, most: int) -> pa.Table | None:
    """Return all rows of a reader, None when there are more; close it, or DuckDB waits."""
    batches, rows = [], 0
    try:
        for batch in reader:
            batches.append(batch)
            rows += batch.num_rows
            if rows > most:
                return None
        return pa.Table.from_batches(batches, reader.schema)
    finally:
        reader.close()
