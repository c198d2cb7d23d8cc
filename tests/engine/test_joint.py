"""A call about all rows of a SELECT sees all of them, whatever the planner does around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.errors import BindError
from quackllm.testing import FakeProvider
from tests.engine.conftest import open_pair

RANK = "LLM_RANK('which is larger', n)"

STATEMENTS = [
    "SELECT title, LLM_RANK('a', title) AS r FROM movies",
    "SELECT title FROM movies ORDER BY LLM_RANK('a', title) LIMIT 5",
    "SELECT title FROM movies ORDER BY LLM_RANK('a', title) DESC LIMIT 5 OFFSET 2",
    "SELECT * FROM movies ORDER BY LLM_RANK('a', title) DESC NULLS FIRST, id LIMIT 3",
    "SELECT title, synopsis, LLM_RANK('a', title, synopsis) FROM movies WHERE year > 2000",
    "SELECT id, LLM_RANK('a', body) AS r FROM reviews ORDER BY r, id",
    "SELECT id, LLM_RANK('a', body, both_orders := true) FROM reviews",
    "SELECT title, LLM_RANK('a', title) FROM movies LIMIT 4",
    "SELECT title, LLM_RANK('a', title) OVER () FROM movies ORDER BY id LIMIT 4",
    "SELECT LLM_RANK('a', title) AS c1, year AS c0, title FROM movies ORDER BY id LIMIT 4",
    "SELECT title AS c1, id AS c0 FROM movies ORDER BY year, LLM_RANK('a', title)",
    "SELECT title FROM movies QUALIFY LLM_RANK('a', title) <= 3",
    "SELECT title FROM movies QUALIFY LLM_RANK('a', title) BETWEEN 2 AND 4 AND id > 5",
    "SELECT title, LLM_RANK('a', title) AS r FROM movies QUALIFY 3 > r ORDER BY r",
    "SELECT title FROM movies WHERE LLM_FILTER('q', title) "
    "QUALIFY LLM_RANK('a', title) <= 3 AND LLM_FILTER('p', synopsis)",
    "SELECT title, LLM_RANK('a', title) FROM movies "
    "QUALIFY row_number() OVER (PARTITION BY genre ORDER BY year DESC) = 1",
    "SELECT title FROM movies "
    "QUALIFY row_number() OVER (PARTITION BY genre ORDER BY id) = 1 ORDER BY LLM_RANK('a', title)",
    "SELECT genre, count(*) AS n, LLM_RANK('a', genre) FROM movies GROUP BY genre HAVING n > 3",
    "SELECT genre, LLM_RANK('a', max(year)) AS r FROM movies GROUP BY ALL ORDER BY 2",
    "SELECT upper(genre) AS g, LLM_RANK('a', upper(genre)) FROM movies GROUP BY 1 ORDER BY 2",
    "SELECT movie_id, LLM_RANK('a', string_agg(body, ' ' ORDER BY id)) FROM reviews GROUP BY 1",
    "SELECT LLM_RANK('a', count(*)) FROM movies",
    "SELECT DISTINCT genre, LLM_RANK('a', genre) AS r FROM movies ORDER BY r DESC",
    "SELECT DISTINCT ON (genre) title FROM movies ORDER BY genre, LLM_RANK('a', title)",
    "SELECT m.title, r.id FROM movies m JOIN reviews r ON r.movie_id = m.id "
    "WHERE r.stars > 3 ORDER BY LLM_RANK('a', r.body), r.id LIMIT 6",
    "SELECT title, LLM('why', title) FROM movies ORDER BY LLM_RANK('a', title) LIMIT 3",
    "SELECT LLM_RANK('a', LLM_SUMMARIZE(title)) AS r, sum(id) OVER () FROM movies",
    "SELECT CASE WHEN year > 2010 THEN LLM_RANK('a', title) END FROM movies",
    "SELECT year > 2010 AND LLM_RANK('a', title) > 4 FROM movies",
    "SELECT LLM_RANK('a', title), LLM_RANK('b', title) FROM movies ORDER BY 1 LIMIT 2",
    "SELECT title FROM movies ORDER BY LLM_RANK('a', title) + id LIMIT 4",
    "SELECT r FROM (SELECT id, LLM_RANK('a', body) AS r FROM reviews) WHERE id < 20",
    "SELECT r FROM (SELECT id, LLM_RANK('a', body) AS r FROM reviews) WHERE r < 4 LIMIT 5",
    "WITH x AS (SELECT id, LLM_RANK('a', title) AS r FROM movies WHERE LLM_FILTER('q', title)) "
    "SELECT * FROM x LIMIT 3",
    "SELECT LLM_RANK('a', title) FROM movies WHERE LLM_FILTER('q', title) LIMIT 3",
    "SELECT m.id, d.r FROM movies m JOIN (SELECT movie_id, LLM_RANK('a', body) AS r FROM reviews) "
    "AS d ON d.movie_id = m.id WHERE m.year > 2010 AND d.movie_id < 25",
    "SELECT id FROM movies WHERE id IN (SELECT movie_id FROM reviews "
    "QUALIFY LLM_RANK('a', body) <= 4) AND id > 3",
    "SELECT id FROM movies WHERE EXISTS (SELECT 1 FROM reviews WHERE stars > 9 "
    "QUALIFY LLM_RANK('a', body) = 1)",
    "SELECT id, (SELECT r.body FROM reviews r WHERE r.movie_id = m.id "
    "ORDER BY LLM_RANK('a', r.body), r.id LIMIT 1) FROM movies m",
    "(SELECT title, LLM_RANK('a', title) FROM movies) UNION ALL SELECT genre, id FROM movies "
    "LIMIT 40",
    "SELECT max(r) FROM (SELECT LLM_RANK('a', title) AS r, year FROM movies) WHERE year < 2000",
    "SELECT id, LLM_RANK('a', body) OVER (PARTITION BY stars) FROM reviews",
    "SELECT id, LLM_RANK('a', title) OVER w FROM movies WINDOW w AS (ORDER BY id ROWS 3 PRECEDING)",
    "SELECT LLM_RANK('a', title) FROM movies WHERE false",
    "SELECT LLM_RANK('a', synopsis) FROM movies WHERE synopsis IS NULL",
    "SELECT LLM_RANK('a', 'x'), LLM_RANK('a', NULL)",
    "SELECT list(r ORDER BY r) FROM (SELECT LLM_RANK('a', [id], {'t': title}) AS r FROM movies)",
    "SELECT * FROM (SELECT id, LLM_RANK('a', title) AS r FROM movies) WHERE r <= 3 AND id > 4",
    "SELECT id FROM (SELECT *, LLM_RANK('a', title) AS r FROM movies) ORDER BY r LIMIT 3",
    "SELECT id, r FROM (SELECT id, LLM_RANK('a', title) AS r FROM movies WHERE year > 1990) AS x "
    "ORDER BY x.r DESC LIMIT 3 OFFSET 1",
    "SELECT id FROM (SELECT id, LLM_RANK('a', title) AS r FROM movies LIMIT 30) ORDER BY r LIMIT 3",
    "SELECT sum(r) OVER () FROM (SELECT id, LLM_RANK('a', title) AS r FROM movies) "
    "ORDER BY r LIMIT 3",
    "SELECT d.g, r FROM (SELECT genre AS g, count(*) AS n, LLM_RANK('a', genre) AS r FROM movies "
    "GROUP BY 1) AS d JOIN movies m ON m.genre = d.g WHERE d.r < 3 AND d.n > 1",
    "SELECT * FROM (SELECT id, row_number() OVER (ORDER BY id) AS k, LLM_RANK('a', title) AS r "
    "FROM movies) WHERE k > 5 AND r < 9",
    "SELECT * FROM (SELECT DISTINCT genre, LLM_RANK('a', title) AS r FROM movies) WHERE r < 3",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_the_plan_gives_what_windows_in_duckdb_give(sql: str) -> None:
    pair = open_pair()
    planned, naive = pair.run_planned(sql), pair.run_naive(sql)
    assert planned[1] == naive[1]
    if "ORDER BY" in sql or "LIMIT" not in sql:
        assert sorted(map(repr, planned[0])) == sorted(map(repr, naive[0]))
    assert pair.planned_fake.calls <= pair.naive_fake.calls


UNSTAGED = ("OVER (P", "OVER w", "= m.id ORDER")


@pytest.mark.parametrize(
    "sql", [sql for sql in STATEMENTS if not any(form in sql for form in UNSTAGED)]
)
def test_joint_calls_are_staged(sql: str) -> None:
    [(_, plan)] = open_pair().run_planned(f"EXPLAIN {sql}")[0]
    assert "scalar function" not in plan


def larger(request: Request) -> str:
    """Compare numbers; accept those that are even where a row is to be judged."""
    fields = json.loads(request.fields)
    if set(fields) == {"A", "B"}:
        return "A" if int(fields["A"] or 0) > int(fields["B"] or 0) else "B"
    return "true" if int(fields["n"] or 0) % 2 == 0 else "false"


UNREACHED = [
    f"SELECT CASE WHEN n > 100 THEN {RANK} ELSE n END FROM t",
    f"SELECT coalesce(n, {RANK}) FROM t",
    f"SELECT n FROM t WHERE g = 1 QUALIFY {RANK} <= 3 AND n > 100",
    f"SELECT n FROM t QUALIFY n >= 0 OR {RANK} <= 3",
    f"SELECT {RANK} FROM t QUALIFY row_number() OVER (ORDER BY n) > 100",
    f"SELECT n FROM t ORDER BY CASE WHEN n > 100 THEN {RANK} END, n LIMIT 2",
    f"SELECT CASE WHEN g > 2 AND LLM_FILTER('even', n) THEN {RANK} END FROM t",
    f"SELECT * FROM (SELECT n, {RANK} AS r FROM t) WHERE n > 100",
    f"SELECT EXISTS (SELECT n, {RANK} FROM t)",
]


@pytest.mark.parametrize("sql", UNREACHED)
def test_nothing_is_compared_where_no_row_reaches_the_call(
    con: quackllm.Connection, sql: str
) -> None:
    """Promise 2: DuckDB, evaluating the call row by row, would not evaluate it at all."""
    rows(con, sql)
    assert con.llm_engine.history[-1].calls == 0


def test_one_row_that_reaches_the_call_is_ranked_among_all(con: quackllm.Connection) -> None:
    sql = f"SELECT CASE WHEN n = 27 AND LLM_FILTER('even', n) THEN {RANK} END AS r FROM t"
    assert rows(con, f"FROM ({sql}) WHERE r IS NOT NULL") == []
    sql = f"SELECT CASE WHEN n >= 26 AND LLM_FILTER('even', n) THEN {RANK} END AS r FROM t"
    assert rows(con, f"FROM ({sql}) WHERE r IS NOT NULL") == [(2,), (4,)]


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT * FROM (SELECT n, {RANK} AS r FROM t) WHERE r <= 3",
        f"SELECT n FROM (SELECT n, {RANK} AS r FROM t) ORDER BY r LIMIT 3",
        f"WITH x AS (SELECT n, {RANK} AS r FROM t) SELECT * FROM x WHERE r < 4 ORDER BY r",
    ],
)
def test_a_query_around_the_ranks_says_how_many_are_found_out(
    con: quackllm.Connection, sql: str
) -> None:
    rows(con, f"SELECT n FROM t ORDER BY {RANK} LIMIT 3")
    assert con.llm_engine.history[-1].calls > 0
    rows(con, sql)
    assert con.llm_engine.history[-1].calls == 0, "all of them were asked before"


def test_a_function_that_changes_beside_a_call_decides_once(con: quackllm.Connection) -> None:
    """What is asked and what is returned would otherwise be decided by two draws."""
    sql = "SELECT CASE WHEN random() < 0.5 THEN LLM_FILTER('even', n) ELSE true END AS x FROM t"
    assert rows(con, f"FROM ({sql}) WHERE x IS NULL") == []


def test_explain_says_when_a_call_about_all_rows_is_made(con: quackllm.Connection) -> None:
    [(_, plan)] = con.execute(f"EXPLAIN SELECT CASE WHEN n > 9 THEN {RANK} END FROM t").fetchall()
    assert "if any row   (n > 9)" in plan


@pytest.fixture
def con() -> Iterator[quackllm.Connection]:
    fake = FakeProvider(answer=larger)
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute("CREATE TABLE t AS SELECT i AS n, i % 3 AS g FROM range(30) r(i)")
        connection.execute("CREATE TABLE few AS SELECT 3 AS n UNION ALL SELECT 28")
        yield connection


def rows(connection: quackllm.Connection, sql: str) -> list[Any]:
    return sorted(connection.execute(sql).fetchall())


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT n, {RANK} FROM t WHERE n > 26", [(27, 3), (28, 2), (29, 1)]),
        (f"SELECT n, {RANK} FROM t ORDER BY n LIMIT 2", [(0, 30), (1, 29)]),
        (f"SELECT n, {RANK} AS r FROM t QUALIFY r > 28", [(0, 30), (1, 29)]),
        (f"SELECT n FROM t ORDER BY {RANK} LIMIT 2", [(28,), (29,)]),
        (f"SELECT n FROM t ORDER BY {RANK} LIMIT 2 OFFSET 3", [(25,), (26,)]),
        (f"SELECT n FROM t ORDER BY {RANK} DESC LIMIT 2", [(0,), (1,)]),
        (f"SELECT n FROM t ORDER BY {RANK} LIMIT 0", []),
        (f"SELECT * FROM (SELECT n, {RANK} FROM t) WHERE n < 2", [(0, 30), (1, 29)]),
        (f"SELECT * FROM (SELECT n, {RANK} FROM t) NATURAL JOIN few", [(3, 27), (28, 2)]),
        (
            f"SELECT * FROM (SELECT n, {RANK} FROM t) WHERE n IN (SELECT n FROM few)",
            [(3, 27), (28, 2)],
        ),
        (f"SELECT n, {RANK} FROM t WHERE LLM_FILTER('even', n) ORDER BY n LIMIT 1", [(0, 15)]),
        (
            f"WITH r AS (SELECT n, {RANK} AS r FROM t) SELECT n, r FROM r JOIN few USING (n) "
            "WHERE r > 5 LIMIT 1",
            [(3, 27)],
        ),
        (f"SELECT g, {RANK.replace('n)', 'sum(n))')} FROM t GROUP BY g", [(0, 3), (1, 2), (2, 1)]),
        (f"SELECT count(*) FROM (SELECT DISTINCT g, {RANK.replace('n)', 'g)')} FROM t)", [(3,)]),
        (f"SELECT CASE WHEN n = 4 THEN {RANK} END FROM t ORDER BY 1 LIMIT 1", [(26,)]),
        (f"SELECT n // 2 + {RANK} FROM t WHERE LLM_FILTER('even', n) LIMIT 1", [(15,)]),
        (f"SELECT n FROM t QUALIFY LLM_FILTER('even', n) AND {RANK} <= 3", [(28,)]),
    ],
)
def test_no_rule_takes_a_row_from_what_is_ranked(
    con: quackllm.Connection, sql: str, expected: list[Any]
) -> None:
    assert rows(con, sql) == expected
    con.execute("SET llm_disabled_rules = 'joint_calls'")
    assert rows(con, sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT n FROM t WHERE {RANK} <= 3",
        f"SELECT sum({RANK}) FROM t",
        f"SELECT n FROM t GROUP BY {RANK}",
        f"SELECT n FROM t GROUP BY n HAVING {RANK} < 3",
        f"SELECT t.n FROM t JOIN few ON {RANK.replace('n)', 't.n)')} < 3",
        f"SELECT sum(n) OVER (ORDER BY {RANK}) FROM t",
        f"SELECT list_transform([n], x -> {RANK.replace('n)', 'x)')}) FROM t",
        f"DELETE FROM t WHERE {RANK} > 3",
    ],
)
def test_places_where_no_window_can_stand_say_what_to_write(
    con: quackllm.Connection, sql: str
) -> None:
    with pytest.raises(duckdb.Error, match=r"LLM_RANK (.|\n)*subquery"):
        con.execute(sql)


@pytest.mark.parametrize(
    ("sql", "match"),
    [
        ("SELECT LLM_RANK('larger', n) FILTER (WHERE n > 3) FROM t", "FILTER is for aggregate"),
        ("SELECT LLM_RANK('larger') FROM t", "data arguments are missing"),
        ("SELECT LLM_RANK(g::VARCHAR, n) FROM t", "criterion must be a constant"),
        ("SELECT LLM_RANK('', n) FROM t", "criterion must be a text"),
        ("SELECT LLM_RANK('is {m} larger', n) FROM t", "not an argument of the call"),
        ("SELECT LLM_RANK('larger', n, both_orders := 3) FROM t", "must be true or false"),
    ],
)
def test_wrong_calls_say_what_is_right(con: quackllm.Connection, sql: str, match: str) -> None:
    with pytest.raises(BindError, match=match):
        con.execute(sql)


def test_tables_and_views_are_made_of_joint_calls(con: quackllm.Connection) -> None:
    con.execute(f"CREATE TABLE best AS SELECT n FROM t QUALIFY {RANK} <= 2")
    con.execute(f"INSERT INTO best SELECT n FROM t ORDER BY {RANK} DESC LIMIT 1")
    con.execute(f"UPDATE best SET n = 100 + {RANK} WHERE n > 0")
    con.execute(f"CREATE VIEW ranked AS SELECT n, {RANK} AS r FROM t")
    con.execute(f"CREATE MACRO place(n) AS {RANK}")
    assert rows(con, "FROM best") == [(0,), (101,), (102,)]
    assert rows(con, "SELECT r FROM ranked WHERE n = 27") == [(3,)]
    assert rows(con, "SELECT n FROM t QUALIFY place(n) = 1") == [(29,)]


def test_a_relation_stays_what_it_was(con: quackllm.Connection) -> None:
    relation = con.sql(f"SELECT n, {RANK} AS r FROM t").filter("n > 27")
    assert sorted(relation.fetchall()) == [(28, 2), (29, 1)]


def test_explain_estimates_the_calls(con: quackllm.Connection) -> None:
    [(_, plan)] = con.execute(f"EXPLAIN (FORMAT json) SELECT n FROM t ORDER BY {RANK}").fetchall()
    [stage] = [entry for entry in json.loads(plan)["stages"] if entry["stage"] == "model"]
    assert stage["at_most"]["calls"] == 30 * 29 // 2
    assert 60 < stage["expected"]["calls"] < 200
    assert stage["in_rounds"]
