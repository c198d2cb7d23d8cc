"""DuckDB's own shell with postgres_scanner: tables and queries of the server in the shell."""

from __future__ import annotations

import pytest

from tests.clients.duckdb_shell import SHELL, outputs, program
from tests.server.pgwire.running import Running, running

pytestmark = pytest.mark.clients

EXTENSION = next(SHELL.rglob("postgres_scanner.duckdb_extension"), None)
if not program(SHELL).exists() or EXTENSION is None:
    pytest.skip("DuckDB's shell 1.5.5 is not installed (make clients)", allow_module_level=True)


def query(sql: str) -> str:
    """A statement that the server runs."""
    return f"FROM postgres_query('x', $$ {sql} $$)"


CHECKS = [
    # tables of the server, and queries
    ("SELECT count(*) FROM x.main.movies", "20"),
    ("SELECT id, title FROM x.main.movies WHERE id = 3", "3,Movie 3"),
    ("SELECT price, released FROM x.main.movies WHERE id = 7", "1.75,2020-01-08"),
    ("SELECT tags FROM x.main.movies WHERE id = 1", '"[t1, NULL]"'),
    ("SELECT count(*) FROM x.main.movies WHERE synopsis IS NULL", "3"),
    ("SELECT count(*) FROM x.main.reviews r JOIN x.main.movies m ON m.id = r.movie_id", "60"),
    ("SELECT count(*) FROM x.main.cheap", "8"),
    ("SELECT sum(stars) FROM x.main.reviews", "150"),
    ("FROM postgres_query('x', 'SELECT 1 AS a, NULL::INTEGER AS b, ''é'' AS c')", '1,NULL,"é"'),
    ("FROM postgres_query('x', 'SELECT 1::SMALLINT AS a, 2::BIGINT AS b, 0.5::DOUBLE AS c, 0.25::FLOAT AS d')", "1,2,0.5,0.25"),
    ("FROM postgres_query('x', 'SELECT true AS a, false AS b')", "true,false"),
    ("FROM postgres_query('x', 'SELECT -12.340::DECIMAL(10, 3) AS a')", "-12.340"),
    ("FROM postgres_query('x', 'SELECT TIMESTAMP ''2024-01-02 03:04:05'' AS a')", "2024-01-02 03:04:05"),
    ("FROM postgres_query('x', 'SELECT TIME ''01:02:03'' AS a')", "01:02:03"),
    ("FROM postgres_query('x', 'SELECT ''12345678-1234-1234-1234-123456789012''::UUID AS a')", "12345678-1234-1234-1234-123456789012"),
    ("FROM postgres_query('x', 'SELECT [1, 2, NULL] AS a')", '"[1, 2, NULL]"'),
    ("FROM postgres_query('x', 'SELECT {''a'': 1} AS a')", '"{""a"":1}"'),
    ("SELECT count(f) FROM postgres_query('x', $$ SELECT LLM_FILTER('by the shell?', title) AS f FROM movies $$)", "20"),
    ("SELECT count(*) FROM postgres_query('x', 'SELECT i FROM range(200000) r(i)')", "200000"),
    ("CREATE TABLE x.main.made (a INTEGER, b VARCHAR); INSERT INTO x.main.made VALUES (1, 'a'), (2, NULL); FROM x.main.made ORDER BY a", "1,a"),
    ("CALL postgres_execute('x', 'DELETE FROM made WHERE a = 1'); SELECT count(*) FROM x.main.made", "1"),
    ("DROP TABLE x.main.made; SELECT 'gone'", "gone"),
    # types, both ways of reading
    (query("SELECT 32767::SMALLINT AS a, '-2147483648'::INTEGER AS b, 9223372036854775807 AS c"), "32767,-2147483648,9223372036854775807"),
    (query("SELECT 'inf'::DOUBLE AS a, '-inf'::FLOAT AS b, 'nan'::DOUBLE AS c"), "inf,-inf,nan"),
    (query("SELECT 99999999.99::DECIMAL(10, 2) AS a, 0.000001::DECIMAL(18, 6) AS b"), "99999999.99,0.000001"),
    (query("SELECT 12345678901234567890123456789.123456789::DECIMAL(38, 9) AS a"), "12345678901234567890123456789.123456789"),
    (query("SELECT DATE '0001-01-01' AS a, DATE '9999-12-31' AS b"), "0001-01-01,9999-12-31"),
    (query("SELECT TIMESTAMP '2024-02-29 23:59:59.999999' AS a"), "2024-02-29 23:59:59.999999"),
    (query("SELECT INTERVAL '1 month 2 days 03:04:05' AS a"), "1 month 2 days 03:04:05"),
    (query("SELECT '\\x00\\xFF'::BLOB AS a"), "\\x00\\xFF"),
    (query("SELECT '{\"a\": [1, null]}'::JSON AS a"), '"{""a"": [1, null]}"'),
    (query("SELECT 'y'::ENUM ('x', 'y') AS a"), "y"),
    (query("SELECT ['a', NULL, 'b,c', '\"'] AS a"), '"[a, NULL, \'b,c\', \'""\']"'),
    (query("SELECT [0.5::DOUBLE, NULL] AS a, [true, false] AS b"), '"[0.5, NULL]","[true, false]"'),
    (query("SELECT [DATE '2024-01-02', NULL] AS a"), '"[2024-01-02, NULL]"'),
    (query("SELECT 'é🦆' AS a, 'two\nlines' AS b, '' AS c"), '"é🦆","two'),
    (query("SELECT length(a) AS n FROM (SELECT repeat('x', 1000000) AS a)"), "1000000"),
    ("SELECT length(a) " + query("SELECT repeat('x', 1000000) AS a"), "1000000"),
    ("SELECT typeof(a), typeof(b), typeof(c) " + query("SELECT 1::SMALLINT AS a, DATE '2024-01-01' AS b, [1] AS c"), "SMALLINT,DATE,INTEGER[]"),
    ("SELECT typeof(a) " + query("SELECT 1.50::DECIMAL(6, 2) AS a"), '"DECIMAL(6,2)"'),
    # NULLs
    (query("SELECT NULL AS a, NULL::DATE AS b, NULL::DECIMAL(4, 1) AS c, NULL::VARCHAR AS d"), "NULL,NULL,NULL,NULL"),
    (query("SELECT NULL::INTEGER[] AS a, NULL::BOOLEAN AS b, NULL::UUID AS c"), "NULL,NULL,NULL"),
    ("SELECT count(*), count(synopsis) FROM x.main.movies", "20,17"),
    ("SELECT id FROM x.main.movies WHERE synopsis IS NULL ORDER BY id LIMIT 1", "0"),
    ("SELECT count(a) " + query("SELECT CASE WHEN i % 3 = 0 THEN NULL ELSE i END AS a FROM range(9000) r(i)"), "6000"),
    # calls to models
    ("SELECT count(*) " + query("SELECT id FROM movies WHERE LLM_FILTER('once?', 'yes') OR true"), "20"),
    ("SELECT typeof(s) " + query("SELECT LLM_SCORE('how good?', title) AS s FROM movies LIMIT 1"), "DOUBLE"),
    ("SELECT typeof(e) " + query("SELECT LLM('say', title, return_type := 'INTEGER') AS e FROM movies LIMIT 1"), "INTEGER"),
    ("SELECT c IN ('a', 'b') " + query("SELECT LLM_CLASSIFY(title, ['a', 'b']) AS c FROM movies LIMIT 1"), "true"),
    ("SELECT bool_or(plan LIKE '%LLM%') FROM (SELECT CAST(COLUMNS(*) AS VARCHAR) AS plan " + query("SELECT sql AS a FROM llm_queries()") + ")", "true"),
    ("SELECT value " + query("SELECT value FROM llm_settings() WHERE name = 'llm_cache'"), "true"),
    ("SELECT count(*) > 5 " + query("SELECT name FROM llm_functions()"), "true"),
    # a macro that hides postgres_query
    ("CREATE MACRO ask(q) AS TABLE FROM postgres_query('x', q); FROM ask('SELECT 41 + 1 AS a')", "42"),
    ("SELECT count(f) FROM ask('SELECT LLM_FILTER(''by the macro?'', title) AS f FROM movies')", "20"),
    ("SELECT m.id FROM x.main.movies m JOIN ask('SELECT 3 AS id') USING (id)", "3"),
    ("CREATE TABLE kept AS FROM ask('SELECT id, LLM(''say'', title) AS a FROM movies'); SELECT count(a) FROM kept", "20"),
    ("CREATE VIEW seen AS FROM ask('SELECT count(*) AS n FROM reviews'); FROM seen", "60"),
    # errors, each the server's own
    (query("SELECT nope FROM movies"), 'Referenced column "nope" not found'),
    (query("SELECT * FROM nowhere"), "Table with name nowhere does not exist"),
    (query("SELEC 1"), "syntax error"),
    (query("SELECT 'x'::INTEGER AS b"), "Could not convert string 'x' to INT32"),
    (query("SELECT LLM_FILTER('alone') AS a"), "data arguments are missing"),
    (query("SELECT LLM('a', title, modle := 'x') AS a FROM movies"), "modle"),
    ("FROM x.main.nowhere", "does not exist"),
    ("SELECT nope FROM x.main.movies", "not found"),
    ("INSERT INTO x.main.reviews VALUES (1000, 1, 'b', 9)", "CHECK constraint"),
    ("INSERT INTO x.main.movies (id, title) VALUES (1, 'again')", "uplicate key"),
    ("CALL postgres_execute('x', 'DROP TABLE nowhere')", "does not exist"),
    (query("SELECT 'still here' AS a"), "still here"),
    # transactions
    ("BEGIN; SELECT count(*) FROM x.main.movies; COMMIT", "20"),
    ("CREATE TABLE x.main.held (a INTEGER); BEGIN; INSERT INTO x.main.held VALUES (1); ROLLBACK; SELECT count(*) FROM x.main.held", "0"),
    ("BEGIN; INSERT INTO x.main.held VALUES (1), (2); COMMIT; SELECT sum(a) FROM x.main.held", "3"),
    ("BEGIN; INSERT INTO x.main.held VALUES (5); SELECT sum(a) FROM x.main.held; ROLLBACK", "8"),
    ("CALL postgres_execute('x', 'UPDATE held SET a = 10 WHERE a = 1'); SELECT sum(a) FROM x.main.held", "12"),
    ("CALL postgres_execute('x', 'DELETE FROM held WHERE a = 10'); SELECT count(*) FROM x.main.held", "1"),
    # large results and tables
    ("SELECT count(*), sum(a) " + query("SELECT i AS a, 'text ' || i AS b FROM range(300000) r(i)"), "300000,44999850000"),
    ("SET pg_use_ctid_scan = false; CREATE TABLE x.main.large AS SELECT i AS a, 'row ' || i AS b FROM range(50000) r(i); SELECT count(*), max(a) FROM x.main.large", "50000,49999"),
    ("SELECT b FROM x.main.large WHERE a = 49999", "row 49999"),
    ("DROP TABLE x.main.large; DROP TABLE x.main.held; SELECT 'dropped'", "dropped"),
    # ATTACH and its options
    ("ATTACH '{place} dbname=shop' AS r (TYPE postgres, READ_ONLY); SELECT count(*) FROM r.main.movies", "20"),
    ("INSERT INTO r.main.movies (id, title) VALUES (99, 'z')", "read-only"),
    ("ATTACH '{place} dbname=shop' AS s (TYPE postgres, SCHEMA 'main'); SELECT count(*) FROM s.movies", "20"),
    ("ATTACH '{place} dbname=other' AS o (TYPE postgres); SELECT count(*) FROM duckdb_tables() WHERE database_name = 'o'", "0"),
    ("ATTACH '{place} dbname=nope' AS n (TYPE postgres)", "nope"),
    ("SELECT string_agg(table_name, ' ' ORDER BY table_name) FROM duckdb_tables() WHERE database_name = 'x' AND schema_name = 'main'", "cheap movies reviews"),
    ("SELECT column_name FROM (DESCRIBE FROM x.main.movies) LIMIT 1", "id"),
    ("USE x.main; SELECT count(*) FROM movies", "20"),
    ("USE memory; DETACH s; SELECT count(*) FROM s.movies", "does not exist"),
]  # fmt: skip


@pytest.fixture(scope="module")
def printed(served: Running) -> dict[str, str]:
    """What each statement prints in one shell, one after the other."""
    place = f"host=127.0.0.1 port={served.port} user=tester"
    first = [f"LOAD '{EXTENSION}';", f"ATTACH '{place} dbname=shop' AS x (TYPE postgres);"]
    statements = [sql for sql, _ in CHECKS]
    shown = outputs(SHELL, first, [sql.replace("{place}", place) for sql in statements])
    return dict(zip(statements, shown, strict=True))


@pytest.mark.parametrize(("sql", "shown"), CHECKS, ids=[sql[:70] for sql, _ in CHECKS])
def test_the_shell_shows(printed: dict[str, str], sql: str, shown: str) -> None:
    lines = printed[sql].splitlines()
    failed = " Error: " in printed[sql]
    assert shown in lines or (failed and shown in printed[sql]), printed[sql]


def test_equal_rows_are_asked_once_by_the_server() -> None:
    with running() as server:
        place = f"host=127.0.0.1 port={server.port} user=tester dbname=shop"
        first = [f"LOAD '{EXTENSION}';", f"ATTACH '{place}' AS x (TYPE postgres);"]
        sql = "SELECT LLM('say', i % 7) AS a FROM range(5000) r(i)"
        [shown] = outputs(SHELL, first, [f"SELECT count(*), count(DISTINCT a) {query(sql)}"])
        assert "5000,7" in shown.splitlines()
        assert server.fake.calls == 7
