"""LLM_FIRST and LLM_LAST: the value of a group that a model puts first or last, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.errors import BindError, CallError, CallTimedOut
from quackllm.testing import FakeProvider, Fault
from tests.engine.conftest import open_pair

STATEMENTS = [
    "SELECT stars, LLM_FIRST(body, 'a') FROM reviews GROUP BY stars",
    "SELECT stars, LLM_LAST(body, 'a', both_orders := true) AS x FROM reviews GROUP BY ALL",
    "SELECT LLM_FIRST(stars, 'a'), LLM_LAST(stars, 'a'), LLM_FIRST(stars, 'b') FROM reviews",
    "SELECT LLM_FIRST(body, 'a') FROM reviews WHERE false",
    "SELECT genre, LLM_FIRST(synopsis, 'a') FROM movies GROUP BY genre",
    "SELECT LLM_FIRST(DISTINCT stars, 'a') FROM reviews",
    "SELECT genre, LLM_FIRST({'t': title, 'y': year}, 'which {values}').t FROM movies GROUP BY 1",
    "SELECT stars, LLM_LAST(body, 'a') FILTER (WHERE id > 3) AS a, count(*) AS n "
    "FROM reviews GROUP BY stars HAVING n > 1 ORDER BY stars",
    "SELECT id, LLM_FIRST(body, 'a') OVER (PARTITION BY stars) FROM reviews",
    "SELECT id, LLM_LAST(body, 'a') FILTER (WHERE id > 2) OVER w FROM reviews "
    "WINDOW w AS (PARTITION BY stars ORDER BY id ROWS 3 PRECEDING)",
    "SELECT stars FROM reviews GROUP BY stars HAVING LLM_FIRST(body, 'a') LIKE '%a%'",
    "SELECT stars FROM reviews GROUP BY stars ORDER BY LLM_FIRST(body, 'a'), stars",
    "SELECT stars, LLM_FIRST(LLM_SUMMARIZE(body), 'a') FROM reviews GROUP BY stars",
    "SELECT genre, LLM_FIRST(LLM_SIMILARITY(title, 'q'), 'a') FROM movies GROUP BY genre",
    "SELECT LLM_SIMILARITY(LLM_FIRST(title, 'a'), 'q') FROM movies GROUP BY genre",
    "SELECT LLM_FILTER('q', LLM_FIRST(body, 'a')), stars FROM reviews GROUP BY stars",
    "SELECT genre, LLM_FIRST(title, 'a') FROM movies WHERE LLM_FILTER('q', title) GROUP BY genre",
    "SELECT genre, LLM_FIRST(title, 'a') FILTER (WHERE LLM_FILTER('q', title)) FROM movies "
    "GROUP BY genre",
    "SELECT genre, (SELECT LLM_FIRST(body, 'a') FROM reviews r WHERE r.movie_id = m.id) "
    "FROM movies m",
    "SELECT m.genre, LLM_FIRST(r.body, 'a') FROM movies m JOIN reviews r ON r.movie_id = m.id "
    "GROUP BY m.genre",
    "SELECT stars, LLM_FIRST(body, 'a'), LLM_LAST(body, 'b') FROM reviews GROUP BY stars LIMIT 2",
    "WITH t AS (SELECT stars, LLM_FIRST(body, 'a') AS s FROM reviews GROUP BY stars) "
    "SELECT stars FROM t WHERE s IS NOT NULL",
    "SELECT LLM_FIRST(title, 'a') FROM movies GROUP BY ROLLUP (genre)",
    "SELECT id, [title, genre, NULL][LLM_POSITION([title, genre, NULL], 'a', 'last')] FROM movies",
    "SELECT list_transform([[title, genre]], x -> LLM_POSITION(x, 'a', 'first')) FROM movies",
    "SELECT LLM_POSITION(NULL, 'x', 'first'), LLM_POSITION([], 'x', 'last'), "
    "LLM_POSITION([NULL], 'x', 'first')",
]

UNSTAGED = ("OVER", "r.movie_id = m.id)", "->", "ROLLUP")


def larger(request: Request) -> str:
    """Compare two as Python orders them, structs by their first field."""
    fields = json.loads(request.fields)
    one, other = fields["A"], fields["B"]
    if isinstance(one, dict):
        one, other = list(one.values()), list(other.values())
    return "A" if one > other else "B"


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(answer=larger)


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[quackllm.Connection]:
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT i % 3 AS g, (i * 7919) % 101 AS n, i FROM range(60) r(i)"
        )
        yield connection


def rows(connection: quackllm.Connection, sql: str) -> list[Any]:
    return sorted(connection.execute(sql).fetchall())


@pytest.mark.parametrize("sql", STATEMENTS)
def test_the_plan_gives_what_a_call_per_row_gives(sql: str) -> None:
    pair = open_pair()
    planned, naive = pair.run_planned(sql), pair.run_naive(sql)
    assert planned[1] == naive[1]
    if "LIMIT" in sql:  # of any groups, and other groups take other numbers of comparisons
        pair.run_naive(sql.partition(" LIMIT")[0])
    else:
        assert sorted(map(repr, planned[0])) == sorted(map(repr, naive[0]))
    assert pair.planned_fake.calls <= pair.naive_fake.calls


@pytest.mark.parametrize(
    "sql", [sql for sql in STATEMENTS if not any(form in sql for form in UNSTAGED)]
)
def test_they_are_staged(sql: str) -> None:
    [(_, plan)] = open_pair().run_planned(f"EXPLAIN {sql}")[0]
    assert "scalar function" not in plan


def test_the_ends_are_those_of_the_ranks_whatever_contradicts() -> None:
    contradicting = FakeProvider()  # its answers follow from a hash of the prompt
    with quackllm.connect(provider=contradicting, progress=False) as con:
        con.execute("CREATE TABLE t AS SELECT 'text ' || i AS x FROM range(60) r(i)")
        sql = "SELECT LLM_FIRST(x, 'which is angrier'), LLM_LAST(x, 'which is angrier') FROM t"
        [(first, last)] = con.execute(sql).fetchall()
        assert first != last
        asked = contradicting.calls
        ranked = "SELECT x FROM t ORDER BY LLM_RANK('which is angrier', x)"
        for order, found in (("", first), (" DESC", last)):
            assert con.execute(f"{ranked}{order} LIMIT 1").fetchall() == [(found,)]
        assert contradicting.calls == asked  # the same comparisons, answered already


@pytest.mark.parametrize(
    "value",
    ["n::UTINYINT", "(n / 7)::DECIMAL(38, 20)", "DATE '2026-01-01' + n::INT", "[n, 1]", "{'a': n}"],
)
def test_the_value_is_the_same_and_of_its_type(con: quackllm.Connection, value: str) -> None:
    con.execute(f"CREATE TABLE s AS SELECT {value} AS x FROM t WHERE n > 50")
    sql = "SELECT LLM_FIRST(x, 'x') AS a, LLM_LAST(x, 'x') AS b, a IN (SELECT x FROM s) FROM s"
    [of_table] = con.execute("SELECT x FROM s LIMIT 0").description
    [(first, last, is_in)] = con.execute(sql).fetchall()
    assert [column[1] for column in con.description[:2]] == [of_table[1]] * 2
    assert is_in
    assert first != last


def test_values_that_only_look_different_are_told_apart(
    con: quackllm.Connection, fake: FakeProvider
) -> None:
    con.execute("CREATE TABLE s (x VARCHAR COLLATE NOCASE, d INTERVAL)")
    con.execute("INSERT INTO s VALUES ('a', '1 month'), ('A', '30 days'), ('B', '1 month')")
    assert con.execute("SELECT LLM_FIRST(x, 'x'), LLM_LAST(x, 'x') FROM s").fetchall() == [
        ("a", "A")
    ]
    again = con.execute("SELECT LLM_FIRST(d, 'x')::VARCHAR FROM s").fetchall()
    assert again == [("30 days",)]


@pytest.mark.parametrize(
    ("values", "found"),
    [("()", None), ("(NULL), (NULL)", None), ("(7)", 7), ("(7), (NULL), (7)", 7)],
)
def test_what_is_certain_takes_no_call(
    con: quackllm.Connection, fake: FakeProvider, values: str, found: int | None
) -> None:
    con.execute("CREATE TABLE s (x SMALLINT)")
    if values != "()":
        con.execute(f"INSERT INTO s VALUES {values}")
    assert con.execute("SELECT LLM_FIRST(x, 'x'), LLM_LAST(x, 'x') FROM s").fetchall() == [
        (found, found)
    ]
    assert fake.calls == 0


def test_order_and_number_of_rows_are_no_matter(
    con: quackllm.Connection, fake: FakeProvider
) -> None:
    sql = "SELECT g, LLM_FIRST(n, 'x'), LLM_LAST(n, 'x') FROM {} GROUP BY g"
    found = rows(con, sql.format("t"))
    assert found == rows(con, "SELECT g, max(n), min(n) FROM t GROUP BY g")
    asked = fake.calls
    con.execute(
        "CREATE TABLE other AS SELECT * FROM (FROM t UNION ALL FROM t UNION ALL "
        "SELECT g, NULL, i FROM t) ORDER BY hash(i)"
    )
    assert rows(con, sql.format("other")) == found
    assert fake.calls == asked


def test_groups_share_their_rounds() -> None:
    fake = FakeProvider(answer=larger, latency=0.002)
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute("CREATE TABLE s AS SELECT i // 4 AS g, i % 4 AS n FROM range(200) r(i)")
        con.execute("UPDATE s SET n = n + 10 * g")
        sql = "SELECT g, LLM_FIRST(n, 'x') FROM s GROUP BY g"
        assert rows(con, sql) == [(g, 10 * g + 3) for g in range(50)]
        assert fake.calls == 50 * 4  # a knockout of four, and one comparison to confirm it
        assert fake.most_in_flight >= 16


def fault(containing: str) -> FakeProvider:
    return FakeProvider(answer=larger, faults=[Fault(CallTimedOut, containing=containing)])


@pytest.mark.parametrize("size", [3, 5, 40])
@pytest.mark.parametrize("end", ["FIRST", "LAST"])
def test_a_failed_comparison_is_a_null_and_recorded(end: str, size: int) -> None:
    with quackllm.connect(provider=fault("bad"), progress=False) as con:
        con.execute(
            f"CREATE TABLE s AS SELECT i % 2 AS g, 'value ' || i AS x FROM range({2 * size}) r(i)"
        )
        con.execute("UPDATE s SET x = 'bad' WHERE x = 'value 1'")
        sql = f"SELECT g, LLM_{end}(x, 'x'{{}}) FROM s GROUP BY g ORDER BY g"
        [(_, good), (_, bad)] = con.execute(sql.format("")).fetchall()
        assert good is not None
        assert bad is None
        causes = con.execute("SELECT DISTINCT function, cause FROM llm_errors()").fetchall()
        assert causes == [("llm_position", "timeout")]
        with pytest.raises(CallError):
            con.execute(sql.format(", on_error := 'error'"))


def test_a_budget_leaves_groups_out(con: quackllm.Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_max_calls = 5; SET llm_on_budget = 'partial'; SET llm_concurrency = 1")
    sql = "SELECT g, LLM_FIRST(n, 'x') FROM t GROUP BY g"
    assert [answer for _, answer in con.execute(sql).fetchall()] == [None] * 3
    con.execute("RESET llm_max_calls")
    assert rows(con, sql) == rows(con, "SELECT g, max(n) FROM t GROUP BY g")


def test_views_and_macros_hold_them(con: quackllm.Connection) -> None:
    con.execute("CREATE VIEW v AS SELECT g, LLM_FIRST(n, 'x') AS a FROM t GROUP BY g")
    con.execute("CREATE MACRO best(x) AS LLM_FIRST(x, 'x')")
    wanted = rows(con, "SELECT g, max(n) FROM t GROUP BY g")
    assert rows(con, "FROM v") == wanted
    assert rows(con, "SELECT g, best(n) FROM t GROUP BY g") == wanted


def test_explain_estimates_the_calls(con: quackllm.Connection, fake: FakeProvider) -> None:
    sql = "SELECT g, LLM_FIRST(n, 'x') FROM t GROUP BY g"
    plan = con.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchall()[0][1]
    [stage] = [entry for entry in json.loads(plan)["stages"] if entry["stage"] == "model"]
    assert fake.calls == 0
    con.execute(sql).fetchall()
    assert stage["at_most"]["calls"] == 3 * 20 * 19 // 2
    assert fake.calls / 2 <= stage["expected"]["calls"] <= 2 * fake.calls
    assert stage["in_rounds"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT LLM_FIRST(n) FROM t", r"wrong number of arguments: LLM_FIRST\(values, criterion"),
        ("SELECT LLM_LAST() FROM t", "wrong number of arguments"),
        ("SELECT LLM_FIRST(n, 5) FROM t", "criterion must be a text, not 5"),
        ("SELECT LLM_FIRST(n, g) FROM t", "criterion must be a constant, not g"),
        ("SELECT LLM_FIRST(n, 'which {m}') FROM t", "not an argument of the call. Arguments: n"),
        ("SELECT LLM_FIRST(n, 'x', k := 1) FROM t", "unknown option k"),
        ("SELECT LLM_FIRST(n, 'x' ORDER BY i) FROM t", "ORDER BY inside has no meaning"),
        ("SELECT LLM_POSITION([n], 'x', 'best') FROM t", "place must be 'first' or 'last'"),
        ("SELECT LLM_POSITION([n], 'x') FROM t", "place is missing"),
        ("SELECT LLM_POSITION({'a': [n], 'b': [i]}, 'x', 'first') FROM t", "one list, not a and b"),
        ("SELECT LLM_POSITION(n, 'x', 'first') FROM t", "values must be a list, not"),
    ],
)
def test_what_is_wrong_is_said(con: quackllm.Connection, sql: str, said: str) -> None:
    with pytest.raises(BindError, match=said):
        con.execute(sql)
