"""Promise 1: a statement without an LLM function is DuckDB's: rows, types and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider

STATEMENTS = [
    "SELECT 42",
    "SELECT 'llm' AS x",
    "SELECT 'LLM(''x'', y)' AS \"llm\"",
    "SELECT llm FROM (SELECT 3 AS llm)",
    "CREATE TABLE llm (llm INTEGER, ai_x VARCHAR)",
    "CREATE TABLE IF NOT EXISTS llm (llm INTEGER)",
    "INSERT INTO llm VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO llm (llm) VALUES (3)",
    "INSERT INTO llm (llm, ai_x) SELECT 4, 'llm' RETURNING *",
    "SELECT * FROM llm ORDER BY ALL",
    "SELECT llm.llm FROM llm ORDER BY 1",
    "SELECT l.llm FROM llm AS l(llm, b) ORDER BY 1 -- LLM('x', y)",
    "SELECT llm.llm FROM llm llm(llm, b) ORDER BY 1",
    "/* LLM_FILTER('x', y) */ SELECT 1",
    "SELECT $$LLM('x')$$, $tag$ LLM_FILTER('a;b') $tag$",
    "UPDATE llm SET llm = llm + 1 WHERE llm > 2",
    "DELETE FROM llm WHERE llm = 4 RETURNING llm",
    "SELECT llm_nothing",
    "SELECT * FROM llm_table",
    "SELECT nope FROM llm",
    "SELEC llm",
    "SELECT 1 +  -- llm",
    "SELECT 'llm",
    'SELECT "llm',
    "SELECT llm(",
    "SELECT llm FROM llm GROUP BY ai_x",
    "SELECT CAST('llm' AS INTEGER)",
    "SELECT error('llm')",
    "INSERT INTO llm VALUES ('x')",
    "INSERT INTO llm VALUES (1, 2, 3)",
    "CREATE TABLE llm (a INT)",
    "CREATE VIEW llm_view AS SELECT * FROM llm",
    "SELECT count(*) FROM llm_view",
    "CREATE MACRO llm_twice(x) AS x * 2",
    "SELECT llm_twice(4)",
    "CREATE MACRO llm_rows(x) AS TABLE SELECT x AS llm",
    "SELECT * FROM llm_rows(3)",
    "PREPARE llm_p AS SELECT $1 + 1 AS llm",
    "EXECUTE llm_p(41)",
    "EXECUTE llm_p",
    "DEALLOCATE llm_p",
    "SET threads = 2 -- llm",
    "SET nope_llm = 2",
    "SET VARIABLE llm_x = 3",
    "SELECT getvariable('llm_x')",
    "PRAGMA table_info('llm')",
    "DESCRIBE llm",
    "DESCRIBE SELECT llm FROM llm",
    "SUMMARIZE SELECT 1 AS llm",
    "SHOW TABLES",
    "EXPLAIN SELECT llm FROM llm WHERE false",
    "BEGIN; INSERT INTO llm VALUES (9, 'z'); ROLLBACK; SELECT count(*) FROM llm",
    "SELECT 1; SELECT 'llm;'; SELECT 3 AS llm",
    "SELECT 1; SELECT nope -- llm",
    "; SELECT 'llm'",
    "-- llm",
    ";",
    "SELECT {'llm': 1} AS s, MAP {'llm': 1}['llm'] AS x, [1]::INTEGER[1] AS llm",
    "SELECT 1::DECIMAL(9, 2) AS llm, DATE '2020-01-01', INTERVAL 3 days, 'a'::BLOB, NULL",
    "SELECT E'llm\\n', 'llm' LIKE 'l%', 10 // 3, 2 ** 3, 'llm' ^@ 'l'",
    "PIVOT (SELECT 'llm' AS k, 1 AS v) ON k USING sum(v)",
    "SELECT COLUMNS('llm') FROM llm ORDER BY 1",
    "ALTER TABLE llm ADD COLUMN llm_z INTEGER DEFAULT 4",
    "CREATE INDEX llm_index ON llm (llm)",
    "CREATE TYPE llm_type AS ENUM ('a', 'llm')",
    "SELECT 'a'::llm_type",
    "CREATE SCHEMA llm_schema",
    "CREATE TABLE llm_schema.llm AS SELECT 1 AS llm",
    "FROM llm_schema.llm",
    "DROP SCHEMA llm_schema",
    "FROM read_csv('/no/such/llm*.csv')",
    "WITH llm AS (SELECT 1 AS a) SELECT * FROM llm",
    "WITH a AS (SELECT 2), llm(a) AS (SELECT 1) SELECT * FROM llm",
    "WITH llm(a) AS MATERIALIZED (SELECT 1) SELECT * FROM llm",
    "SELECT * FROM generate_series(1, 3) AS llm(i)",
    "SELECT model, llm FROM (SELECT 1 AS model, 2 AS llm)",
    "ATTACH ':memory:' AS llm_db",
    "CREATE TABLE llm_db.t AS SELECT 5 AS llm",
    "FROM llm_db.t",
    "DETACH llm_db",
    "SELECT 'Größe llm', '😀' AS \"ai_ 😀\", chr(0) || 'llm'",
    'SELECT 1 AS "llm""x"',
    "SELECT ?::INT AS llm",
    "CREATE TEMP TABLE ai_t AS SELECT range AS r FROM range(3)",
    "TRUNCATE ai_t",
    "DROP TABLE llm CASCADE",
    "DROP TABLE llm",
]

Answer = tuple[Any, ...]


def answer(connection: Any, method: str, sql: str) -> Answer:
    """What a statement gives: rows and types, or the class and text of the error."""
    try:
        result = getattr(connection, method)(sql)
        if result is None:
            return ("nothing",)
        return ("rows", repr(result.fetchall()), repr(result.description))
    except duckdb.Error as error:
        return (type(error), str(error))


@pytest.mark.parametrize("method", ["execute", "sql", "query"])
def test_statements_give_what_duckdb_gives(method: str) -> None:
    fake = FakeProvider()
    with duckdb.connect() as plain, quackllm.connect(provider=fake) as ours:
        for sql in STATEMENTS:
            assert answer(ours, method, sql) == answer(plain, method, sql), sql
    assert fake.calls == 0


@pytest.fixture
def both() -> Iterator[tuple[duckdb.DuckDBPyConnection, Connection]]:
    with duckdb.connect() as plain, quackllm.connect(provider=FakeProvider()) as ours:
        yield plain, ours


PARAMETERS = [
    ("SELECT ? AS llm", ["x"]),
    ("SELECT ? AS llm", ("x",)),
    ("SELECT ? AS llm", []),
    ("SELECT ? AS llm", [1, 2]),
    ("SELECT ? AS llm", None),
    ("SELECT 1 AS llm", [1]),
    ("SELECT $a AS llm", {"a": 1}),
    ("SELECT $a AS llm", {"b": 1}),
    ("SELECT $2 AS llm, $1", [1, 2]),
    ("SELECT $a AS llm, ?", [1]),
    ("SELECT ? AS llm", 3),
    ("SELECT 1; SELECT ? AS llm", [1]),
]


@pytest.mark.parametrize(("sql", "given"), PARAMETERS)
def test_parameters_and_their_errors_are_duckdbs(
    both: tuple[duckdb.DuckDBPyConnection, Connection], sql: str, given: Any
) -> None:
    plain, ours = both

    def run(connection: Any) -> Answer:
        try:
            return ("rows", connection.execute(sql, given).fetchall())
        except duckdb.Error as error:
            return (type(error), str(error))

    assert run(ours) == run(plain)


CALLS_WITH_WRONG_PARAMETERS = [
    ("SELECT LLM(?, 'a')", []),
    ("SELECT LLM(?, 'a')", [1, 2]),
    ("SELECT LLM(?, 'a')", None),
    ("SELECT LLM('x', 'a')", [1]),
    ("SELECT LLM($a, 'a')", {"b": 1}),
    ("SELECT LLM(?, 'a')", "text"),
    ("SELECT LLM($a, ?)", [1]),
]


@pytest.mark.parametrize(("sql", "given"), CALLS_WITH_WRONG_PARAMETERS)
def test_wrong_parameters_of_a_call_are_told_in_duckdbs_words(
    both: tuple[duckdb.DuckDBPyConnection, Connection], sql: str, given: Any
) -> None:
    plain, ours = both
    with pytest.raises(duckdb.Error) as expected:
        plain.execute(sql.replace("LLM", "concat"), given)
    with pytest.raises(type(expected.value)) as found:
        ours.execute(sql, given)
    assert str(found.value) == str(expected.value)


def test_files_and_table_methods_are_duckdbs(
    both: tuple[duckdb.DuckDBPyConnection, Connection], tmp_path: Path
) -> None:
    for connection in both:
        path = tmp_path / f"{type(connection).__module__}.csv"
        connection.execute("CREATE TABLE t AS SELECT 1 AS llm, 'x' AS b")
        connection.table("t").write_csv(str(path))
        assert connection.read_csv(str(path)).fetchall() == [(1, "x")]
        assert connection.execute("FROM t").fetchnumpy()["llm"].tolist() == [1]
        assert connection.table("t").filter("llm = 1").columns == ["llm", "b"]
        assert connection.get_table_names("SELECT * FROM t") == {"t"}
        with pytest.raises(duckdb.CatalogException):
            connection.table("llm_none")


def test_statement_objects_run(con: Connection) -> None:
    [statement] = con.extract_statements("SELECT LLM_FILTER('x', 'y') IS NULL")
    assert con.execute(statement).fetchall() == [(False,)]


def test_an_unknown_function_is_duckdbs_error_with_ours_suggested(con: Connection) -> None:
    for sql in ("SELECT LLM_FILTR('x', 'y')", "SELECT LLM('a', 'b'), LLM_FILTR('x', 'y')"):
        with pytest.raises(duckdb.CatalogException, match='Did you mean "LLM_FILTER"') as found:
            con.execute(sql)
        assert "LINE 1" in str(found.value)


def test_closing_is_duckdbs() -> None:
    con = quackllm.connect(provider=FakeProvider())
    con.close()
    con.close()
    with pytest.raises(duckdb.ConnectionException):
        con.execute("SELECT 1")
    with pytest.raises(duckdb.ConnectionException):
        con.execute("SELECT LLM('x', 'y')")
