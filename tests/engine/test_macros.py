"""Promises 1 and 2 for macros that call a model: planned as if their body stood there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quackllm.engine.connection import Connection
from quackllm.errors import BindError
from quackllm.testing import FakeProvider
from tests.engine.conftest import Pair, close_pair, open_pair
from tests.engine.test_equality import assert_equal

MACROS = """
CREATE MACRO why(x) AS LLM('Why?', x);
CREATE MACRO ask(x, y) AS LLM('Ask', x, y) || '!';
CREATE MACRO asked(x) AS LLM('one', x), (x, y) AS LLM('two', x, y);
CREATE MACRO good(t) AS t IS NOT NULL AND LLM_FILTER('good?', upper(t));
CREATE MACRO nested(a) AS why(lower(a)) || coalesce(ask(a, 1), '');
CREATE MACRO shown(x) AS x IN (SELECT title FROM movies m WHERE LLM_FILTER('q', m.title));
CREATE MACRO member(s) AS LLM('m', s.name);
CREATE MACRO each(l, y) AS list_transform(l, lambda x: x + length(why(y)));
CREATE MACRO typed(n INTEGER) AS LLM('n', n);
CREATE MACRO twice(x) AS x || why(x) || x;
CREATE MACRO best(n) AS TABLE SELECT id, title, LLM_SCORE('Good?', synopsis) AS s FROM movies
    WHERE id < n ORDER BY s DESC NULLS LAST, id LIMIT n;
CREATE MACRO about(q) AS TABLE SELECT id, LLM(q, body) FROM reviews WHERE body LIKE '%' || q || '%';
CREATE VIEW over_macro AS SELECT id, why(title) AS w FROM movies;
CREATE MACRO over_view(n) AS TABLE SELECT * FROM over_macro WHERE id > n;
"""

STATEMENTS = [
    "SELECT why(title) FROM movies",
    "SELECT WHY(title) AS w, why(genre) FROM movies WHERE year > 2000",
    "SELECT main.why(title) FROM movies",
    "SELECT memory.main.why(m.title) FROM movies m",
    "SELECT upper(why(title)) || 'x' FROM movies WHERE good(synopsis)",
    "SELECT ask(title, genre), ask(y := title, x := genre), ask(genre, y := id) FROM movies",
    "SELECT asked(title), asked(title, genre) FROM movies",
    "SELECT nested(title) FROM movies",
    "SELECT why(x || y) FROM (SELECT title AS x, genre AS y FROM movies)",
    "SELECT ask(y, x) FROM (SELECT title AS x, genre AS y FROM movies)",
    "SELECT id FROM movies WHERE shown(title)",
    "SELECT member({'name': title}) FROM movies",
    "SELECT member(s) FROM (SELECT {'name': title} AS s FROM movies)",
    "SELECT typed(id) FROM movies",
    "SELECT typed(id::SMALLINT) FROM movies",
    "SELECT twice(title) FROM movies WHERE id < 8",
    "SELECT why(title), count(*) FROM movies GROUP BY why(title)",
    "SELECT why(genre) AS g, count(*) FROM movies GROUP BY g ORDER BY g NULLS FIRST",
    "SELECT id FROM movies ORDER BY why(title), id LIMIT 3",
    "SELECT sum(length(why(body))) FILTER (WHERE good(body)) FROM reviews",
    "SELECT CASE WHEN stars > 3 THEN why(body) ELSE ask(body, id) END FROM reviews",
    "SELECT * FROM best(6)",
    "SELECT b.title, b.s FROM best(n := 9) AS b WHERE b.id > 2",
    # No inner join: the filter that DuckDB makes of its one side may save a call on the other,
    # or come too late.
    "SELECT a.id, b.x FROM best(5) a FULL JOIN main.best(8) AS b(x, y) ON a.id = b.x",
    "FROM about('Review text 1')",
    "SELECT * FROM about('Review') ORDER BY ALL LIMIT 4",
    "WITH movies AS (SELECT 1 AS id, 'captured' AS title, 's' AS synopsis) SELECT * FROM best(3)",
    "SELECT w FROM over_macro WHERE id < 7",
    "SELECT w FROM over_view(20)",
    "WITH c AS (SELECT why(title) AS w, id FROM movies) SELECT w FROM c WHERE id > 20",
    "SELECT (SELECT max(why(title)) FROM movies) AS m",
    "SELECT why(t) FROM (SELECT why(title) AS t FROM movies)",
    "SELECT u.w FROM (SELECT why(title), id FROM movies) AS u(w, i) WHERE i < 4",
]


@pytest.fixture(scope="module")
def defined() -> Iterator[Pair]:
    pair = open_pair()
    pair.define(MACROS)
    assert (pair.planned_fake.calls, pair.naive_fake.calls) == (0, 0), "CREATE MACRO asks nothing"
    yield pair
    close_pair(pair)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_macro_is_planned_and_equals_the_naive_plan(defined: Pair, sql: str) -> None:
    assert_equal(defined, sql)
    explained = defined.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    assert "scalar function" not in explained[1], explained[1]


@pytest.mark.parametrize("sql", ["SELECT each([1, 2], title) FROM movies"])
def test_a_macro_that_cannot_be_staged_equals_the_naive_plan(defined: Pair, sql: str) -> None:
    assert_equal(defined, sql)
    explained = defined.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    assert "scalar function" in explained[1]


def test_a_default_that_is_not_known_leaves_the_macro_to_duckdb(
    con: Connection, fake: FakeProvider
) -> None:
    con.execute("CREATE MACRO d(x, y := 'def') AS LLM('x', x, y)")
    con.execute("SELECT d(title) FROM movies").fetchall()
    con.execute("SELECT d(title, 'def'), d(title, y := 'def') FROM movies").fetchall()
    assert fake.calls == 30
    assert [stats.calls for stats in con.llm_engine.history] == [30, 0]
    [(_, plan)] = con.execute("EXPLAIN SELECT d(title) FROM movies").fetchall()
    assert "the macro d is not called with all its parameters" in plan
    [(_, plan)] = con.execute("EXPLAIN SELECT d(title, 'def') FROM movies").fetchall()
    assert "scalar function" not in plan


def test_a_macro_of_another_schema_is_found_by_the_search_path(con: Connection) -> None:
    con.execute(
        "CREATE SCHEMA other; CREATE MACRO other.m(x) AS 'other ' || LLM('o', x);"
        "CREATE MACRO main.m(x) AS 'main ' || LLM('m', x)"
    )
    for use, name in (("main", "m"), ("main", "other.m"), ("other", "m"), ("other", "main.m")):
        con.execute(f"USE {use}")
        sql = f"SELECT {name}(t) FROM (SELECT 'a' AS t) WHERE t > ''"
        assert con.execute(sql).fetchall() == con._raw.execute(sql).fetchall(), (use, name)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        (
            "CREATE TABLE n (a VARCHAR CHECK (LLM_FILTER('x', a)))",
            "LLM_FILTER .* a CHECK constraint",
        ),
        ("CREATE TABLE n (a INT, CHECK (a > 1 AND good(a)))", "GOOD .* a CHECK constraint"),
        ("CREATE TABLE n (a INT, b VARCHAR DEFAULT LLM('x'))", "the DEFAULT of column b"),
        ("CREATE TABLE n (a INT, b VARCHAR AS (LLM('x', a)))", "the generated column b"),
        (
            "CREATE TABLE n (a DECIMAL(9, 2), \"b c\" TEXT GENERATED ALWAYS AS (LLM('x', a)))",
            "the generated column b c",
        ),
        ("ALTER TABLE movies ADD COLUMN n VARCHAR DEFAULT LLM('x')", "the DEFAULT of column n"),
        (
            "ALTER TABLE movies ALTER genre SET DEFAULT why('x')",
            "WHY .* the DEFAULT of column genre",
        ),
        ("CREATE INDEX i ON movies (LLM('x', title))", "the index i"),
        ("CREATE UNIQUE INDEX IF NOT EXISTS i ON movies (id, (why(title)))", "WHY .* the index i"),
    ],
)
def test_a_definition_that_duckdb_evaluates_on_its_own_is_refused_by_its_place(
    defined: Pair, sql: str, place: str
) -> None:
    with pytest.raises(BindError, match=f"^Binder Error: .*{place}.* not deterministic"):
        defined.planned.execute(sql)


def test_a_change_of_type_may_use_answers(con: Connection, fake: FakeProvider) -> None:
    con.execute("ALTER TABLE movies ALTER genre TYPE VARCHAR USING LLM('x', title)")
    assert fake.calls == 30
