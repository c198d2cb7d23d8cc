"""Promises 1 and 2 for UPDATE and DELETE: the naive plan's table, count and rows returned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.cache import MemoryCache
from quackllm.engine.connection import Connection
from quackllm.errors import CallError
from quackllm.testing import FakeProvider
from tests.engine.conftest import TABLES, Pair, close_pair, open_pair

SETUP = """
CREATE TABLE keyed (id INTEGER PRIMARY KEY, name VARCHAR UNIQUE,
    day DATE, tags VARCHAR[], n DECIMAL(9, 2));
INSERT INTO keyed SELECT i, 'k' || i, DATE '2020-01-01' + i::INTEGER,
    ['t' || i % 3], i FROM range(20) r(i);
CREATE VIEW moods AS SELECT id AS i, LLM_SENTIMENT(synopsis) AS mood FROM movies;
CREATE MACRO why(x) AS LLM('Why?', x);
CREATE SCHEMA other;
CREATE TABLE other."T x" AS SELECT i AS id, 'v' || i AS "select" FROM range(5) r(i);
"""

STAGED = [
    "UPDATE movies SET genre = LLM_CLASSIFY(synopsis, ['a', 'b'])",
    "UPDATE movies SET genre = LLM('x', title), year = year + 1 WHERE year > 2000",
    "UPDATE movies SET year = LLM('How many?', title, return_type := 'INTEGER') WHERE id < 5",
    "UPDATE movies AS m SET genre = upper(LLM('x', m.title)) WHERE LLM_FILTER('q', "
    "m.synopsis) RETURNING *",
    "UPDATE movies m SET year = 1 WHERE LLM_FILTER('q', title) RETURNING m.id, title || '!' AS t",
    "UPDATE movies SET genre = NULL, title = LLM('x', title), synopsis = DEFAULT WHERE id % 2 = 0",
    "UPDATE movies SET genre = LLM('x', body) FROM (SELECT DISTINCT ON (movie_id) * FROM reviews "
    "ORDER BY movie_id, id) r WHERE r.movie_id = movies.id AND stars IS DISTINCT FROM 3",
    "UPDATE movies SET genre = r.body, year = NULL, title = 'x' FROM (SELECT movie_id, "
    "max(body) AS body "
    "FROM reviews GROUP BY 1) r WHERE r.movie_id = movies.id AND LLM_FILTER('match?', title, "
    "r.body)",
    "UPDATE movies SET title = (SELECT max(LLM('x', body)) FROM reviews WHERE stars > 3)",
    "WITH good AS (SELECT id AS i FROM movies WHERE LLM_FILTER('q', title)) "
    "UPDATE movies SET genre = 'good', year = year + 1 FROM good WHERE id = i",
    "UPDATE keyed SET id = id + 100, name = LLM('x', name), day = '2021-02-03', tags = "
    "[name], n = n / 3",
    "UPDATE keyed SET tags = [LLM('x', tags[1])], day = LLM('When?', name, return_type := 'DATE')",
    'UPDATE other."T x" AS "a b" SET "select" = LLM(\'x\', "a b"."select") '
    'WHERE "a b".id > 1 RETURNING "select"',
    "UPDATE memory.main.movies SET genre = LLM('x', title) WHERE movies.id = 3",
    "UPDATE movies SET genre = mood FROM moods WHERE i = id",
    "UPDATE movies SET genre = why(title) WHERE why(synopsis) IS NOT NULL",
    "DELETE FROM movies WHERE LLM_FILTER('q', synopsis)",
    "DELETE FROM movies AS m WHERE m.year > 2000 AND NOT LLM_FILTER('q', m.title) RETURNING "
    "id, m.title",
    "DELETE FROM movies USING reviews r WHERE r.movie_id = movies.id AND LLM_FILTER('q', "
    "r.body) RETURNING *",
    "DELETE FROM movies WHERE id IN (SELECT movie_id FROM reviews WHERE LLM_FILTER('q', body))",
    "WITH bad AS (SELECT i FROM moods WHERE mood = 'negative') DELETE FROM movies USING bad "
    "WHERE id = i",
    "DELETE FROM keyed WHERE LLM_FILTER('q', name) RETURNING n, tags, day",
]

STAGED_MERGES = [
    "MERGE INTO movies m USING (SELECT movie_id, max(LLM('x', body)) AS b FROM reviews GROUP "
    "BY 1) r "
    "ON r.movie_id = m.id WHEN MATCHED THEN UPDATE SET genre = b "
    "WHEN NOT MATCHED THEN INSERT (id, genre) VALUES (movie_id, b)",
    "MERGE INTO movies USING (SELECT id AS i FROM movies WHERE LLM_FILTER('q', title)) AS q "
    "ON i = id WHEN MATCHED THEN DELETE RETURNING merge_action, id",
    "MERGE INTO movies m USING (SELECT DISTINCT ON (movie_id) * FROM reviews ORDER BY movie_id, id)"
    " r ON r.movie_id = m.id "
    "AND LLM_FILTER('match?', r.body) WHEN MATCHED THEN UPDATE SET genre = LLM('y', r.body)",
    "MERGE INTO movies m USING reviews r ON r.id = m.id WHEN MATCHED AND m.year > 2000 AND "
    "LLM_FILTER('q', r.body) OR r.stars = 1 THEN UPDATE SET genre = LLM('y', r.body), year = 1 "
    "WHEN MATCHED AND r.stars > 2 THEN UPDATE SET title = upper(LLM('z', r.body)) || '!' "
    "WHEN MATCHED THEN UPDATE SET genre = CASE WHEN r.stars > 1 THEN 'when' ELSE LLM('e', r.body) "
    "END WHEN NOT MATCHED AND r.id < 40 THEN INSERT (id, genre) VALUES (r.id, LLM('w', r.body)) "
    "WHEN NOT MATCHED THEN DO NOTHING RETURNING merge_action, id, LLM('r', title)",
    "MERGE INTO movies m USING reviews r ON r.id = m.id WHEN MATCHED AND r.body IS NOT NULL "
    "THEN DELETE WHEN MATCHED AND TRY_CAST(r.body AS INTEGER) IS NULL AND LLM_FILTER('q', m.title) "
    "THEN UPDATE SET genre = LLM('y', m.title)",
    "MERGE INTO movies m USING (FROM reviews ORDER BY id LIMIT 9) r ON r.id = m.id WHEN MATCHED "
    "THEN DELETE WHEN NOT MATCHED BY SOURCE AND m.id > 20 THEN UPDATE SET genre = LLM('y', m.title)"
    " WHEN NOT MATCHED BY SOURCE AND LLM_FILTER('q', m.title) THEN DELETE",
    "WITH r AS (SELECT id, LLM('c', body) AS title, stars AS year FROM reviews WHERE id > 25) "
    "MERGE INTO movies USING r USING (id) WHEN MATCHED THEN UPDATE SET title = r.title, "
    "year = DEFAULT, synopsis = NULL WHEN NOT MATCHED BY TARGET THEN INSERT BY NAME",
    "MERGE INTO keyed USING (SELECT 3 AS id, LLM('x', 'y'), '2020-01-01', ['a'], 1.5 UNION ALL "
    "SELECT 90, LLM('x', 'z'), NULL, NULL, 2) s ON s.id = keyed.id "
    "WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT * RETURNING *",
    'MERGE INTO other."T x" AS "a b" USING (VALUES (1, \'end\'), (7, \'case\')) AS "case"("end", '
    '"when") ON "case"."end" = "a b".id WHEN MATCHED AND "case"."when" <> \'when\' THEN UPDATE SET '
    '"select" = LLM(\'x\', "when") WHEN NOT MATCHED THEN INSERT VALUES ("case"."end", why("when"))',
    "MERGE INTO movies USING moods ON i = id AND mood = 'negative' WHEN MATCHED AND "
    "why(title) IS NOT NULL THEN UPDATE SET genre = why(synopsis), title = mood",
    "MERGE INTO memory.main.movies USING range(28, 33) AS r(i) ON i = id WHEN MATCHED AND "
    "LLM_FILTER('q', i) THEN DELETE WHEN NOT MATCHED AND i > 30 THEN INSERT (id, title) VALUES "
    "(i, LLM('x', i)) WHEN NOT MATCHED THEN INSERT DEFAULT VALUES RETURNING id, merge_action",
]

STAGED_AROUND = [
    "UPDATE movies SET year = 3 WHERE id < 4 RETURNING LLM('x', title)",
    "DELETE FROM movies WHERE id < 4 RETURNING LLM('x', title)",
    "DELETE FROM movies AS m WHERE id < 9 RETURNING *, upper(LLM('x', m.title)) AS id, m.*",
    "UPDATE movies SET genre = LLM('x', title) WHERE id < 9 RETURNING id, LLM('y', genre)",
    "INSERT INTO movies (id, title) SELECT id, LLM('x', title) FROM movies RETURNING "
    "LLM('y', title)",
    "INSERT INTO movies (id, title) SELECT id + 50, title FROM movies WHERE id < 3 RETURNING "
    "CASE WHEN id < 52 THEN LLM('y', movies.title) END, id",
    "MERGE INTO movies m USING (FROM reviews WHERE LLM_FILTER('q', body)) r ON r.id = m.id "
    "WHEN MATCHED THEN DELETE RETURNING merge_action, LLM('y', m.title)",
    "INSERT INTO movies VALUES (91, LLM('x', 'a'), NULL, 1990, 'g'), (92, 'b', 'c', '1991', NULL)",
    "INSERT INTO keyed (n, id, name, day) VALUES ('1.239', 70, LLM('x', 'a'), '2020-02-02'), (2,"
    " 71, upper(LLM('x', 'a')), LLM('d', 'when', return_type := 'DATE')) ON CONFLICT DO NOTHING "
    "RETURNING *, LLM('y', name)",
    "WITH g AS (SELECT id FROM movies WHERE LLM_FILTER('q', title)) INSERT INTO movies (id, genre) "
    "SELECT id + 100, LLM('x', id) FROM g RETURNING id, LLM('y', genre)",
    "WITH g AS (FROM movies) INSERT INTO movies BY NAME WITH h AS (FROM g WHERE LLM_FILTER('q', "
    "title)) SELECT year, id FROM h",
    "INSERT INTO movies (id, title, year) VALUES (93, LLM('x', 'a'), DEFAULT), (94, why('b'), "
    "DEFAULT)",
]
"""Calls in RETURNING and in VALUES of an INSERT."""

SCALAR = [
    ("UPDATE movies SET (genre, title) = (LLM('x', title), 'y')", "sets several columns"),
    (
        "UPDATE movies SET year = 3 WHERE id < 4 RETURNING why(title), LLM('z', title)",
        "beside what only DuckDB computes",
    ),
    (
        "MERGE INTO movies m USING reviews r ON r.id = m.id WHEN MATCHED AND r.stars > (SELECT 2) "
        "THEN UPDATE SET genre = LLM('y', r.body)",
        "DuckDB binds no query",
    ),
    (
        "MERGE INTO movies USING reviews r JOIN reviews q USING (id) ON id = movies.id "
        "WHEN MATCHED THEN UPDATE SET genre = LLM('y', q.body)",
        "no single table or query",
    ),
    (
        "INSERT INTO movies (id, title) VALUES (91, LLM('x', 'a')), (92, DEFAULT)",
        "is DEFAULT in some rows",
    ),
    (
        "INSERT INTO keyed (id, name) VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET "
        "name = LLM('x', keyed.name)",
        "beside the query of the statement",
    ),
]
"""Changes that run by the scalar function, and words of the reason."""

TABLES_CHANGED = ("movies", "keyed", 'other."T x"')


@pytest.fixture(scope="module")
def stored() -> Iterator[Pair]:
    pair = open_pair()
    pair.define(SETUP)
    yield pair
    close_pair(pair)


def outcome(run: Any, connection: Any, sql: str) -> list[Any]:
    """Rows, columns and tables after a change that is rolled back; the class of its error."""
    connection.execute("BEGIN")
    try:
        rows, types = run(sql)
        names = [column[0] for column in connection.description]
        tables = [connection.execute(f"FROM {table}").fetchall() for table in TABLES_CHANGED]
        return [types, names, *(Counter(map(repr, each)) for each in (rows, *tables))]
    except duckdb.Error as error:
        return [type(error)]
    finally:
        connection.execute("ROLLBACK")


def compare(pair: Pair, sql: str) -> None:
    planned_before, naive_before = pair.planned_fake.calls, pair.naive_fake.calls
    pair.naive_engine.cache = MemoryCache()
    planned = outcome(pair.run_planned, pair.planned, sql)
    naive = outcome(pair.run_other_naive, pair.naive, sql)
    assert planned == naive
    assert len(planned) > 1, "the change fails"
    made = pair.planned_fake.calls - planned_before
    assert 0 < made <= pair.naive_fake.calls - naive_before


@pytest.mark.parametrize("sql", [*STAGED, *STAGED_MERGES, *STAGED_AROUND])
def test_a_change_is_planned_and_equals_the_naive_plan(stored: Pair, sql: str) -> None:
    compare(stored, sql)
    explained = stored.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    assert "model 1" in explained[1], explained[1]
    assert "scalar function" not in explained[1], explained[1]


@pytest.mark.parametrize(("sql", "reason"), SCALAR)
def test_a_change_that_cannot_be_planned_says_so_and_equals_the_naive_plan(
    stored: Pair, sql: str, reason: str
) -> None:
    compare(stored, sql)
    explained = stored.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    assert "● scalar function" in explained[1]
    assert reason in " ".join(explained[1].replace("│", " ").split())


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        ("m.id < 4", 3),
        ("m.id < 4 AND LLM_FILTER('q', r.body)", 1),
        ("LLM_FILTER('q', r.body) AND m.id < 4", 1),
        ("\"end\" < 'case' AND m.id < 4", 3),
        ("m.id < 4 AND random() < 2", 3),
        ("random() * m.id < 4", 12),
        ("abs(m.id) < 4 AND chance() <= 1", 3),
        ("m.id < (SELECT 4)", 12),
        ("LLM_FILTER('q', r.body)", 7),
        ("m.id < (SELECT 4) AND LLM_FILTER('q', r.body)", 12),
    ],
)
def test_the_action_of_a_merge_is_asked_where_its_condition_may_hold(
    con: Connection, fake: FakeProvider, condition: str, asked: int
) -> None:
    """DuckDB computes it for all twelve rows that are matched."""
    con.execute("CREATE TABLE r AS SELECT id, 'text ' || id AS body, 'a' AS \"end\" FROM movies")
    con.execute("CREATE MACRO chance() AS random()")
    con.execute("DELETE FROM r WHERE id NOT BETWEEN 1 AND 12")
    con.execute(
        f"MERGE INTO movies m USING r ON r.id = m.id WHEN MATCHED AND {condition} "
        "THEN UPDATE SET genre = LLM('why', r.body)"
    )
    assert sum("why" in request.instruction for request in fake.requests) == asked


def test_a_change_is_one_statement_and_leaves_nothing_behind(con: Connection) -> None:
    before = con.execute("FROM duckdb_tables()").fetchall()
    sql = "UPDATE movies SET genre = LLM('x', title) WHERE year > 2000 RETURNING id"
    assert len(con.execute(sql).fetchall()) == 19
    assert [(stats.sql, stats.calls) for stats in con.llm_engine.history] == [(sql, 19)]
    assert con.execute("SELECT 1").fetchall() == [(1,)]
    after = con.execute("FROM duckdb_tables()").fetchall()
    assert [row[4] for row in after] == [row[4] for row in before]


def test_results_come_as_from_duckdb(con: Connection) -> None:
    assert con.execute("DELETE FROM movies WHERE LLM_FILTER('q', title)").fetchall() == [(14,)]
    assert [column[:2] for column in con.description] == [("Count", "BIGINT")]
    assert con.sql("UPDATE movies SET genre = LLM('x', title)") is None
    relation = con.sql("UPDATE movies SET year = 1 WHERE LLM_FILTER('r', title) RETURNING id, id")
    assert len(relation.fetchall()) == len(relation.fetchall()) > 0
    sql = "UPDATE movies SET genre = LLM('x', title) WHERE year > ? AND title <> ?"
    assert con.execute(sql, [1, "Movie 3"]).fetchall() == [(7,)]


def test_an_error_changes_nothing_and_keeps_the_answers() -> None:
    def answer(request: Any) -> str:
        if "Movie 7" in request.fields:
            raise CallError("broken")
        return "x"

    fake = FakeProvider(answer=answer)
    with quackllm.connect(provider=fake, progress=False, on_error="error") as con:
        con.execute(TABLES)
        for begin in ("SELECT 1", "BEGIN"):
            con.execute(begin)
            with pytest.raises(quackllm.errors.QuackLLMError):
                con.execute("UPDATE movies SET genre = LLM('x', title)")
            assert con.execute("SELECT count(*) FROM movies WHERE genre = 'x'").fetchall() == [(0,)]
        con.execute("ROLLBACK")
        asked = fake.calls
        con.execute("UPDATE movies SET genre = LLM('x', title) WHERE id < 7")
        assert fake.calls == asked


@pytest.mark.parametrize("change", ["DELETE FROM movies", "UPDATE movies SET year = 1"])
def test_a_call_in_returning_that_fails_undoes_the_change(change: str) -> None:
    """In a transaction of the user's as DuckDB does it, which aborts that."""

    def answer(request: Any) -> str:
        raise CallError("broken")

    fake = FakeProvider(answer=answer)
    with quackllm.connect(provider=fake, progress=False, on_error="error") as con:
        con.execute(TABLES)
        untouched = con.execute("FROM movies").fetchall()
        for begin in ("SELECT 1", "BEGIN"):
            con.execute(begin)
            with pytest.raises(quackllm.errors.QuackLLMError, match="broken"):
                con.execute(f"{change} RETURNING id, LLM('x', title)")
            if begin == "BEGIN":
                with pytest.raises(duckdb.TransactionException, match="aborted"):
                    con.execute("FROM movies")
                con.execute("ROLLBACK")
            assert con.execute("FROM movies").fetchall() == untouched


def test_what_returning_asks_is_one_statement_with_the_change(con: Connection) -> None:
    sql = "UPDATE movies SET genre = LLM('x', title) WHERE id < 4 RETURNING LLM('y', genre), id"
    con.execute("BEGIN")
    assert len(con.execute(sql).fetchall()) == 4
    con.execute("ROLLBACK")
    assert [(stats.sql, stats.calls) for stats in con.llm_engine.history] == [(sql, 8)]
    assert con.sql("DELETE FROM movies WHERE id < 2 RETURNING LLM('x', *)").fetchall() != []
    assert con.execute("SELECT 1").fetchall() == [(1,)]
    tables = con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert not any(name.startswith("__llm") for (name,) in tables)


def test_the_rows_of_values_are_asked_at_once(con: Connection, fake: FakeProvider) -> None:
    """DuckDB evaluates a call over constants as it binds, one after the other."""
    con.execute("CREATE TABLE v (a VARCHAR)")
    con.execute("INSERT INTO v VALUES (LLM('x', 'a')), (LLM('x', 'b')), (LLM('x', 'a'))")
    assert fake.calls == 2
    assert [stats.sql for stats in con.llm_engine.history][-1].startswith("INSERT INTO v")


def test_a_broken_constraint_is_duckdbs_error(con: Connection) -> None:
    con.execute("CREATE TABLE strict (n INTEGER UNIQUE, v VARCHAR)")
    con.execute("INSERT INTO strict VALUES (1, 'a'), (2, 'b')")
    with pytest.raises(duckdb.ConstraintException):
        con.execute("UPDATE strict SET n = length(LLM('x', v))")
    assert con.execute("FROM strict").fetchall() == [(1, "a"), (2, "b")]


def test_a_change_sees_rows_that_its_own_transaction_wrote(con: Connection) -> None:
    con.execute(
        "BEGIN; INSERT INTO movies VALUES (99, 'new', 's', 2020, 'g');"
        "DELETE FROM movies WHERE id = 0"
    )
    con.execute("UPDATE movies SET genre = LLM('x', title)")
    assert con.execute("SELECT genre LIKE 'answer%' FROM movies WHERE id = 99").fetchall() == [
        (True,)
    ]
    assert con.execute("DELETE FROM movies WHERE LLM('x', title) = genre").fetchall() == [(30,)]
    con.execute("ROLLBACK")
    assert con.execute("SELECT count(*), max(id) FROM movies").fetchall() == [(30, 29)]


def test_a_table_that_changed_meanwhile_is_a_conflict_not_a_wrong_row() -> None:
    other: list[Any] = []

    def answer(request: Any) -> str:
        if not other:
            other.append(con._raw.cursor())
            other[0].execute("UPDATE movies SET genre = 'changed' WHERE id = 3")
        return "x"

    with quackllm.connect(provider=FakeProvider(answer=answer), progress=False) as con:
        con.execute(TABLES)
        with pytest.raises(duckdb.TransactionException, match="onflict"):
            con.execute("UPDATE movies SET genre = LLM('x', title)")
        assert con.execute("SELECT count(*) FROM movies WHERE genre = 'x'").fetchall() == [(0,)]


def test_a_table_with_a_column_called_rowid_is_left_to_the_scalar_function(con: Connection) -> None:
    con.execute("CREATE TABLE odd AS SELECT 1 AS rowid, 'a' AS v UNION ALL SELECT 1, 'b'")
    assert con.execute("DELETE FROM odd WHERE v = 'a' AND LLM('x', v) IS NOT NULL").fetchall() == [
        (1,)
    ]
