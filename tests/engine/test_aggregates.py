"""LLM_AGG and LLM_SUMMARIZE_AGG: one answer per group, whatever DuckDB does with its rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

import quackllm
from quackllm.errors import BindError, CallTimedOut
from quackllm.testing import FakeProvider, Fault
from tests.engine.conftest import open_pair

STATEMENTS = [
    "SELECT stars, LLM_AGG(body, 'What do they say?') FROM reviews GROUP BY stars",
    "SELECT stars, LLM_AGG(body, 'What?', chunk_tokens := 100) FROM reviews GROUP BY ALL",
    "SELECT LLM_SUMMARIZE_AGG(body) FROM reviews",
    "SELECT LLM_SUMMARIZE_AGG(body) FROM reviews WHERE false",
    "SELECT LLM_AGG(DISTINCT stars, 'Which?') FROM reviews",
    "SELECT LLM_AGG(body, 'Which?' ORDER BY stars DESC) FROM reviews",
    "SELECT LLM_AGG(DISTINCT stars, 'Which?', max_words := 5 ORDER BY stars) FROM reviews",
    "SELECT stars, LLM_AGG(body, 'Which?') FILTER (WHERE id > 3) AS a, count(*) AS n "
    "FROM reviews GROUP BY stars HAVING n > 1 ORDER BY stars",
    "SELECT id, LLM_AGG(body, 'Which?') OVER (PARTITION BY stars) FROM reviews",
    "SELECT id, LLM_AGG(body, 'Which?') FILTER (WHERE id > 2) OVER w FROM reviews "
    "WINDOW w AS (PARTITION BY stars ORDER BY id ROWS 1 PRECEDING)",
    "SELECT genre, LLM_AGG({'t': title, 'y': year}, 'Which {values}?') FROM movies GROUP BY genre",
    "SELECT stars FROM reviews GROUP BY stars HAVING LLM_AGG(body, 'Which?') LIKE '%a%'",
    "SELECT stars FROM reviews GROUP BY stars ORDER BY LLM_AGG(body, 'Which?'), stars",
    "SELECT stars, LLM_AGG(LLM_SUMMARIZE(body), 'Which?') FROM reviews GROUP BY stars",
    "SELECT LLM_FILTER('q', LLM_AGG(body, 'Which?')), stars FROM reviews GROUP BY stars",
    "SELECT genre, (SELECT LLM_AGG(body, 'Which?') FROM reviews r WHERE r.movie_id = m.id) "
    "FROM movies m",
    "SELECT stars, LLM_AGG(body, 'a'), LLM_AGG(body, 'b') FROM reviews GROUP BY stars LIMIT 2",
    "WITH t AS (SELECT stars, LLM_SUMMARIZE_AGG(body) AS s FROM reviews GROUP BY stars) "
    "SELECT stars FROM t WHERE s IS NOT NULL",
    "SELECT stars, [s.b FOR s IN list_sort(list({'b': body}))], LLM('why', max(body)) "
    "FROM reviews GROUP BY stars",
    "SELECT list_transform([[title]], x -> LLM_REDUCE(x, 'Which?')) FROM movies",
    "SELECT id, LLM_REDUCE([title, genre, NULL], 'Which?') FROM movies",
    "SELECT id, LLM_REDUCE(repeat(title || ' ', 200), 'Which?', chunk_tokens := 100) FROM movies",
    "SELECT LLM_REDUCE(NULL, 'x'), LLM_REDUCE([], 'x'), LLM_REDUCE([NULL], 'x')",
]


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[quackllm.Connection]:
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT i % 3 AS g, 'a review, number ' || i AS body, i "
            "FROM range(600) r(i)"
        )
        yield connection


@pytest.mark.parametrize("sql", STATEMENTS)
def test_the_plan_gives_what_a_call_per_row_gives(sql: str) -> None:
    pair = open_pair()
    planned, naive = pair.run_planned(sql), pair.run_naive(sql)
    assert planned[1] == naive[1]
    if "LIMIT" not in sql:
        assert sorted(map(repr, planned[0])) == sorted(map(repr, naive[0]))
    assert pair.planned_fake.calls <= pair.naive_fake.calls


@pytest.mark.parametrize(
    "sql", [sql for sql in STATEMENTS if not any(word in sql for word in ("OVER", "r.", "->"))]
)
def test_aggregates_are_staged(sql: str) -> None:
    pair = open_pair()
    [(_, plan)] = pair.run_planned(f"EXPLAIN {sql}")[0]
    assert "scalar function" not in plan


def test_order_of_the_rows_is_no_matter(con: quackllm.Connection, fake: FakeProvider) -> None:
    sql = "SELECT g, LLM_AGG(body, 'What?', chunk_tokens := 300) FROM {} GROUP BY g ORDER BY g"
    first = con.execute(sql.format("t")).fetchall()
    asked = fake.calls
    con.execute("CREATE TABLE other AS SELECT * FROM t ORDER BY hash(i)")
    assert con.execute(sql.format("other")).fetchall() == first
    assert fake.calls == asked


def test_texts_that_a_collation_takes_for_one_are_asked_in_one_way() -> None:
    """Of 'a' and 'A' DuckDB keeps what it comes upon first, and puts them in any order."""
    sql = "SELECT LLM_AGG({}body, 'What?') FROM {}"
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute("CREATE TABLE t (body VARCHAR COLLATE NOCASE); CREATE TABLE u AS FROM t")
        con.execute("INSERT INTO t VALUES ('a'), ('A'), ('b'), ('a')")
        con.execute("INSERT INTO u VALUES ('A'), ('b'), ('a'), ('a')")
        for asked, distinct in enumerate(("DISTINCT ", ""), start=1):
            first, second = (con.execute(sql.format(distinct, t)).fetchall() for t in "tu")
            assert first == second
            assert fake.calls == asked
    shown = [json.loads(request.fields)["body"] for request in fake.requests]
    assert shown == [["A", "a", "b"], ["A", "a", "a", "b"]]


def test_a_changed_row_redoes_its_path(con: quackllm.Connection, fake: FakeProvider) -> None:
    sql = "SELECT g, LLM_AGG(body, 'What?', chunk_tokens := 300) FROM t GROUP BY g"
    con.execute(sql).fetchall()
    asked = fake.calls
    assert asked > 20
    con.execute("UPDATE t SET body = 'another text' WHERE i = 301")
    con.execute(sql).fetchall()
    assert fake.calls - asked <= 6  # two levels of one group, and neighbours


def test_a_failed_part_is_null_and_recorded_and_the_rest_is_there() -> None:
    fake = FakeProvider(faults=[Fault(CallTimedOut, containing="number 301")])
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(
            "CREATE TABLE t AS SELECT i % 3 AS g, 'number ' || i AS body FROM range(900) r(i)"
        )
        sql = "SELECT g, LLM_AGG(body, 'What?', chunk_tokens := 200{}) FROM t GROUP BY g ORDER BY g"
        rows = con.execute(sql.format("")).fetchall()
        assert [answer is None for _, answer in rows] == [False, True, False]
        [(function, cause)] = con.execute("SELECT function, cause FROM llm_errors()").fetchall()
        assert (function, cause) == ("llm_reduce", "timeout")
        instead = con.execute(sql.format(", default_value := 'none'")).fetchall()
        assert instead == [(g, "none" if answer is None else answer) for g, answer in rows]


def test_a_budget_leaves_groups_out(con: quackllm.Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_max_calls = 5; SET llm_on_budget = 'partial'; SET llm_concurrency = 1")
    sql = "SELECT LLM_AGG(body, 'What?', chunk_tokens := 300) FROM t GROUP BY g"
    assert con.execute(sql).fetchall() == [(None,)] * 3
    assert fake.calls == 5
    con.execute("RESET llm_max_calls")
    assert None not in [row[0] for row in con.execute(sql).fetchall()]


def test_views_and_macros_hold_aggregates(con: quackllm.Connection, fake: FakeProvider) -> None:
    con.execute("CREATE VIEW v AS SELECT g, LLM_AGG(body, 'What?') AS a FROM t GROUP BY g")
    con.execute("CREATE MACRO m(task) AS TABLE SELECT g, LLM_SUMMARIZE_AGG(body) FROM t GROUP BY g")
    assert len(con.execute("SELECT * FROM v WHERE g = 1").fetchall()) == 1
    assert fake.calls <= 3
    assert len(con.execute("FROM m('x')").fetchall()) == 3


def test_explain_counts_parts_and_what_is_known_of_them(
    con: quackllm.Connection, fake: FakeProvider
) -> None:
    sql = "SELECT g, LLM_AGG(body, 'What?', chunk_tokens := 300) FROM t GROUP BY g"
    plan = con.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchall()[0][1]
    [stage, *_] = json.loads(plan)["stages"]
    assert fake.calls == 0
    con.execute(sql).fetchall()
    assert fake.calls <= stage["expected"]["calls"] <= 2 * fake.calls  # answers may be long
    con.execute("UPDATE t SET body = 'another text' WHERE i = 301")
    plan = con.execute(f"EXPLAIN {sql}").fetchall()[0][1]
    assert re.search(r"\d+ of \d+ answers are there already", plan)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT LLM_AGG(body) FROM t", r"wrong number of arguments: LLM_AGG\(values, task\)"),
        ("SELECT LLM_AGG() FROM t", "wrong number of arguments"),
        ("SELECT LLM_AGG(body, 5) FROM t", "task must be a text, not 5"),
        ("SELECT LLM_AGG(body, g) FROM t", "task must be a constant, not g"),
        ("SELECT LLM_AGG(body, 'What is {bdy}?') FROM t", "did you mean body"),
        ("SELECT LLM_AGG(body, 'x', chunk_tokens := 1) FROM t", "from 100 to 1000000"),
        ("SELECT LLM_REDUCE({'a': [g], 'b': [i]}, 'x') FROM t", "must be one list, not a and b"),
        ("SELECT LLM_REDUCE(body, 'x' ORDER BY g) FROM t", "ORDER BY are for aggregate"),
    ],
)
def test_what_is_wrong_is_said(con: quackllm.Connection, sql: str, said: str) -> None:
    with pytest.raises(BindError, match=said):
        con.execute(sql)
