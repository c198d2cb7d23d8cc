"""Promise 2 where an expression fails for rows that a call leaves out: the statement runs.

DuckDB fixes no order for conditions; the naive plan asks about a row in the order in which the
statement is written, and so does a plan where its own order fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Request
from quackllm.testing import FakeProvider

TABLE = (
    "CREATE TABLE t AS SELECT * FROM (VALUES ('12', 1), ('n/a', 1), ('3', 2), ('7', 2), "
    "('twelve', 3)) v(x, g)"
)
NUMBER = "LLM_FILTER('number?', x)"


def is_number(request: Request) -> str:
    """Say TRUE of texts that hold a digit."""
    return "true" if any(map(str.isdigit, request.fields)) else "false"


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(answer=is_number)


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=fake, progress=False, cache=False) as connection:
        connection.execute(TABLE)
        yield connection


BEHIND = (
    (f"SELECT x FROM t WHERE {NUMBER} AND x::INTEGER > 5 ORDER BY g", ["12", "7"]),
    (f"SELECT x FROM t WHERE {NUMBER} AND x = 7", ["7"]),
    (f"SELECT x FROM (SELECT x FROM t WHERE {NUMBER}) WHERE x::INTEGER < 5", ["3"]),
    (
        f"SELECT d.x FROM (SELECT x FROM t WHERE {NUMBER}) d JOIN t u ON u.g = d.x::INTEGER "
        "WHERE CAST(d.x AS INTEGER) < 5",
        ["3"],
    ),
    (f"SELECT x FROM t WHERE g IN (SELECT x::INTEGER - 1 FROM t WHERE {NUMBER})", ["3", "7"]),
    (f"SELECT x FROM t WHERE {NUMBER} GROUP BY x HAVING x::INTEGER > 10", ["12"]),
    (f"SELECT x FROM t WHERE NOT ({NUMBER}) OR x::INTEGER > 10 ORDER BY ALL", "12 n/a twelve"),
    (f"SELECT sqrt(x::INTEGER - 3)::VARCHAR FROM t WHERE {NUMBER} ORDER BY 1", "0.0 2.0 3.0"),
)


@pytest.mark.parametrize(("sql", "rows"), BEHIND)
def test_what_fails_behind_a_call_fails_for_no_row_that_the_call_leaves_out(
    con: Connection, fake: FakeProvider, sql: str, rows: list[str] | str
) -> None:
    expected = rows.split() if isinstance(rows, str) else rows
    assert [row[0] for row in con.execute(sql).fetchall()] == expected
    assert fake.calls == 5  # each text once, although the statement began twice


@pytest.mark.parametrize(
    ("sql", "left"),
    [
        (f"DELETE FROM t WHERE {NUMBER} AND x::INTEGER > 5", "3 n/a twelve"),
        (f"UPDATE t SET x = x::INTEGER + 1 WHERE {NUMBER} AND x::INTEGER > 5", "13 3 8 n/a twelve"),
    ],
)
def test_a_change_fails_for_no_row_that_a_call_leaves_out(
    con: Connection, fake: FakeProvider, sql: str, left: str
) -> None:
    con.execute(sql)
    rows = con.execute("SELECT x FROM t ORDER BY x").fetchall()
    assert [row[0] for row in rows] == left.split()
    assert fake.calls == 5


IN_ROUNDS = (
    (f"SELECT x FROM t WHERE {NUMBER} ORDER BY x::INTEGER LIMIT 1", "3"),
    (f"SELECT max(x::INTEGER) FROM t WHERE {NUMBER}", 12),
    (f"SELECT max(CASE x WHEN g + 1 THEN g END) FROM t WHERE {NUMBER}", 2),
    (f"SELECT DISTINCT x::INTEGER FROM t WHERE {NUMBER} ORDER BY 1 DESC", 12),
    (f"SELECT 'yes' WHERE 7 IN (SELECT x::INTEGER FROM t WHERE {NUMBER})", "yes"),
)


@pytest.mark.parametrize(("sql", "first"), IN_ROUNDS)
def test_rounds_put_rows_in_an_order_that_fails_for_rows_left_out(
    con: Connection, sql: str, first: object
) -> None:
    con.begin()  # an error would abort it
    assert con.execute(sql).fetchall()[0][0] == first
    explained = con.execute("EXPLAIN ANALYZE " + sql).fetchone()
    assert explained is not None
    assert "scalar function" not in explained[1]
    assert "stops after" in explained[1]


def test_explain_analyze_says_that_the_plan_was_left(con: Connection) -> None:
    explained = con.execute(
        f"EXPLAIN ANALYZE SELECT x FROM t WHERE {NUMBER} AND x::INTEGER > 5"
    ).fetchone()
    assert explained is not None
    assert "DuckDB fails for a row that a call may leave out" in " ".join(explained[1].split())


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT x FROM t WHERE x::INTEGER > 5 AND {NUMBER}",
        "SELECT LLM('double it', x::INTEGER) FROM t",
        "SELECT * FROM t JOIN t u ON u.g = t.x::INTEGER WHERE LLM_FILTER('number?', t.x)",
    ],
)
def test_what_fails_before_any_call_costs_nothing(
    con: Connection, fake: FakeProvider, sql: str
) -> None:
    with pytest.raises(duckdb.ConversionException):
        con.execute(sql)
    assert fake.calls == 0


def test_an_error_of_a_row_that_counts_is_the_statements_own(con: Connection) -> None:
    with pytest.raises(duckdb.ConversionException):
        con.execute("SELECT x FROM t WHERE LLM_FILTER('number?', g) AND x::INTEGER > 5")


def test_a_transaction_is_aborted_by_the_first_error(con: Connection) -> None:
    con.begin()
    with pytest.raises(duckdb.ConversionException):
        con.execute(f"SELECT x FROM t WHERE {NUMBER} AND x::INTEGER > 5")
    con.rollback()
