"""Many argument tuples are asked for in rounds; the rows are those of one round."""

from __future__ import annotations

from functools import partial

import duckdb
import pytest

import quackllm
from quackllm.engine import executor
from quackllm.engine.chunks import in_chunks
from quackllm.testing import FakeProvider

DISTINCT = "SELECT DISTINCT s FROM t"


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t AS SELECT 'text ' || i % 1000 AS s FROM range(5000) r(i)")
    return connection


@pytest.mark.parametrize("size", [7, 300, 999, 1000, 1001, 10_000])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_every_row_is_in_one_chunk(
    con: duckdb.DuckDBPyConnection, size: int, in_transaction: bool
) -> None:
    if in_transaction:
        con.begin()
    tables = list(in_chunks(con, DISTINCT, {}, "waiting", size))
    assert max(table.num_rows for table in tables) <= size
    found = [row for table in tables for row in table["s"].to_pylist()]
    assert sorted(found) == sorted({f"text {i}" for i in range(1000)})
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchall() == [(0,)]


def test_no_rows_are_one_table_with_the_columns(con: duckdb.DuckDBPyConnection) -> None:
    [table] = in_chunks(con, DISTINCT + " WHERE s = ''", {}, "waiting", 10)
    assert (table.num_rows, table.column_names) == (0, ["s"])


def test_the_connection_is_free_while_a_chunk_is_worked_on(
    con: duckdb.DuckDBPyConnection,
) -> None:
    for table in in_chunks(con, DISTINCT, {}, "waiting", 300):
        assert con.execute("SELECT 42").fetchall() == [(42,)]
        assert table.num_rows


def test_a_statement_of_many_rounds_has_the_rows_and_the_calls_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> tuple[list[tuple[object, ...]], int]:
        fake = FakeProvider()
        with quackllm.connect(provider=fake, progress=False, cache=False) as connection:
            connection.execute(
                "CREATE TABLE t AS SELECT i, 'text ' || i % 700 AS s FROM range(2000) r(i)"
            )
            sql = "SELECT i, LLM_FILTER('odd?', s) FROM t WHERE LLM_FILTER('good?', s) ORDER BY i"
            rows = connection.execute(sql).fetchall()
            left = "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%tuples%'"
            assert connection.execute(left).fetchall() == [(0,)]
        return rows, fake.calls

    expected = run()

    monkeypatch.setattr(executor, "in_chunks", partial(in_chunks, size=64))
    assert run() == expected
