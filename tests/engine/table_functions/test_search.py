"""llm_search: exactly the rows that plain SQL finds by comparing all."""

from __future__ import annotations

from typing import Any

import pytest

from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider

NEAREST = """
SELECT q.id, p.id FROM (SELECT id, LLM_EMBED(question) AS v FROM questions) q,
    (SELECT id, LLM_EMBED(body) AS v FROM passages) p WHERE q.v IS NOT NULL AND p.v IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY q.id ORDER BY
    array_cosine_similarity(q.v, p.v) DESC, p.id) <= 4 ORDER BY ALL
"""


def rows(con: Connection, sql: str, parameters: Any = None) -> list[Any]:
    found: list[Any] = con.execute(sql, parameters).fetchall()
    return found


def test_the_nearest_rows_are_those_that_sql_finds_by_comparing_all(con: Connection) -> None:
    found = rows(
        con,
        "SELECT q.id, p.id FROM questions q, "
        "llm_search('passages', 'body', q.question, k := 4, mode := 'vector') p ORDER BY ALL",
    )
    assert found == rows(con, NEAREST)


def test_all_questions_are_asked_at_once_and_equal_ones_once(
    con: Connection, fake: FakeProvider
) -> None:
    rows(con, "FROM questions q, llm_search('passages', 'body', q.question) p")
    texts = rows(
        con,
        "SELECT count(*) FROM (SELECT body FROM passages UNION SELECT question FROM questions) "
        "t(x) WHERE x IS NOT NULL",
    )
    assert fake.calls == texts[0][0]
    assert rows(con, "SELECT calls FROM llm_queries()")[0] == texts[0]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, rank FROM llm_search('passages', 'body', 'ducks', k := 3)",
        "WITH s AS (FROM llm_search('passages', 'body', 'ducks', k := 3)) SELECT id, rank FROM s",
        "SELECT s.id, s.rank FROM questions q JOIN llm_search('passages', 'body', 'ducks', k := 3)"
        " s ON q.id = 0",
        "SELECT id, rank FROM (FROM llm_search('main.passages', 'BODY', 'ducks', k := 3)) AS d",
        "WITH p AS (FROM passages) SELECT id, rank FROM llm_search('p', 'body', 'ducks', k := 3)",
        "SELECT a, b FROM llm_search('passages', 'body', 'ducks', k := 3) AS s(a, x, b)",
        "SELECT id, rank FROM searched",
        "SELECT id, rank FROM find('ducks')",
    ],
)
def test_it_stands_wherever_a_table_may_stand(con: Connection, sql: str) -> None:
    con.execute(
        "CREATE VIEW searched AS FROM llm_search('passages', 'body', 'ducks', k := 3);"
        "CREATE MACRO find(q) AS TABLE FROM llm_search('passages', 'body', q, k := 3)"
    )
    expected = rows(
        con, "SELECT id, rank FROM llm_search('passages', 'body', $1, k := $2)", ["ducks", 3]
    )
    assert rows(con, sql) == expected
    assert [rank for _, rank in expected] == [1, 2, 3]


def test_a_relation_reads_it_too(con: Connection, fake: FakeProvider) -> None:
    relation = con.sql("SELECT id FROM llm_search('passages', 'body', 'ducks', k := 3)")
    assert fake.calls == 0
    assert len(relation.filter("id > 0").fetchall()) == 3


def test_nothing_is_left_behind(con: Connection) -> None:
    con.execute("FROM questions q, llm_search('passages', 'body', q.question)").fetchall()
    con.execute("SELECT 1")
    left = "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '\\_\\_%' ESCAPE '\\'"
    assert rows(con, left) == [(0,)]
