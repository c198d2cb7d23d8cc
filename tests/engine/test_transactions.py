"""Transactions of the user's: LLM statements see their data and leave them usable."""

from __future__ import annotations

import gc
from typing import Any

import duckdb
import pytest

from quackllm.engine.connection import Connection
from quackllm.errors import AuthenticationFailed, BindError
from quackllm.testing import FakeProvider, Fault


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(faults=[Fault(error=AuthenticationFailed, containing="boom")])


def one(con: Connection, sql: str) -> Any:
    return con.execute(sql).fetchall()[0][0]


STATEMENTS = [
    "SELECT LLM('x', title) FROM movies",
    "SELECT title FROM movies WHERE LLM_FILTER('x', title) ORDER BY id LIMIT 1",
    "SELECT list_transform([title], v -> LLM('x', v)) FROM movies",
    "INSERT INTO movies (title) SELECT LLM('x', title) FROM movies",
    "UPDATE movies SET title = LLM('x', title)",
    "EXPLAIN SELECT LLM('x', title) FROM movies",
    "EXPLAIN ANALYZE SELECT LLM('x', title) FROM movies",
    "SELECT LLM('x', m.*) FROM movies m",
    "SET llm_cache = true",
    "SELECT count(*) FROM llm_queries()",
    "SELECT m.title FROM movies m WHERE EXISTS (FROM reviews r WHERE r.movie_id = m.id "
    "AND LLM_FILTER('a', r.body, m.title))",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_statements_run_inside_a_transaction_and_leave_it_open(con: Connection, sql: str) -> None:
    con.begin()
    con.execute("INSERT INTO movies (id, title) VALUES (1000, 'uncommitted')")
    con.execute(sql).fetchall()
    con.sql(sql)
    assert one(con, "SELECT count(*) FROM movies WHERE id = 1000") == 1
    con.rollback()
    assert one(con, "SELECT count(*) FROM movies") == 30
    assert one(con, "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%llm%'") == 0


def test_statements_see_uncommitted_rows(con: Connection) -> None:
    con.begin()
    con.execute("CREATE TABLE fresh AS SELECT 'new' AS v")
    assert con.execute("SELECT count(LLM('x', v)) FROM fresh").fetchall() == [(1,)]
    con.commit()
    assert con.execute("SELECT count(LLM('x', v)) FROM fresh").fetchall() == [(1,)]


def test_errors_of_ours_leave_the_transaction_open(con: Connection) -> None:
    con.begin()
    con.execute("DELETE FROM movies WHERE id = 0")
    for sql, kind in [
        ("SELECT LLM('boom', title) FROM movies", AuthenticationFailed),
        ("SELECT LLM('x', title, nope := 1) FROM movies", BindError),
        ("SELECT LLM('x', nope.*) FROM movies", BindError),
    ]:
        with pytest.raises(kind):
            con.execute(sql)
        assert one(con, "SELECT count(*) FROM movies") == 29, sql
    con.commit()
    assert one(con, "SELECT count(*) FROM movies") == 29


def test_an_error_of_duckdb_aborts_the_transaction_as_duckdb_does(con: Connection) -> None:
    con.begin()
    with pytest.raises(duckdb.InvalidInputException):
        con.execute("SELECT error('x')").fetchall()
    with pytest.raises(duckdb.TransactionException):
        con.execute("SELECT LLM('x', title) FROM movies")
    con.rollback()
    assert one(con, "SELECT count(LLM('x', title)) FROM movies") == 30


def test_results_from_before_a_rolled_back_transaction_do_not_stay(con: Connection) -> None:
    relation = con.sql("SELECT LLM('x', title) FROM movies")
    relation.fetchall()
    con.begin()
    del relation
    gc.collect()
    con.execute("SELECT 1").fetchall()
    con.rollback()
    con.execute("SELECT LLM('y', title) FROM movies")
    con.begin()
    with pytest.raises(duckdb.Error):
        con.execute("SELECT error('x')").fetchall()
    con.rollback()
    con.execute("SELECT 1").fetchall()
    assert one(con, "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%llm%'") == 0


def test_scripts_with_transactions(con: Connection) -> None:
    con.execute(
        "BEGIN; INSERT INTO movies (id, title) SELECT 99, LLM('x', 'y'); "
        "SELECT LLM('x', title) FROM movies; COMMIT"
    )
    assert one(con, "SELECT count(*) FROM movies WHERE id = 99") == 1
