"""Promises 1 and 2 for views that call a model: planned as if their body stood there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider
from tests.engine.conftest import TABLES, Pair, close_pair, open_pair
from tests.engine.test_equality import assert_equal

VIEWS = """
CREATE VIEW moods AS SELECT id, title, LLM_SENTIMENT(synopsis) AS mood, genre FROM movies;
CREATE VIEW sad(number, "the title", why) AS SELECT id, title, LLM('Why?', synopsis)
    FROM movies WHERE LLM_FILTER('Sad?', synopsis) AND year > 1995;
CREATE VIEW recent AS SELECT * FROM sad WHERE number > 10;
CREATE VIEW unnamed AS SELECT id, LLM('x', title), upper(LLM('x', title)) || '!' FROM movies;
CREATE VIEW stars AS SELECT *, LLM_SCORE('Good?', body) AS score FROM reviews;
CREATE VIEW facts AS SELECT id, LLM_EXTRACT(body, {'price': 'DOUBLE', 'tags': 'VARCHAR[]'}) AS e
    FROM reviews;
CREATE VIEW grouped AS SELECT LLM_CLASSIFY(body, ['a', 'b']) AS c, count(*) AS n, avg(stars) AS s
    FROM reviews GROUP BY c;
CREATE VIEW both_sides AS SELECT m.title, r.body FROM movies m JOIN reviews r
    ON r.movie_id = m.id AND LLM_FILTER('match?', m.title, r.body);
CREATE VIEW first AS SELECT id, LLM('x', title) AS x FROM movies ORDER BY year DESC, id LIMIT 5;
CREATE VIEW several AS SELECT title AS t, LLM('x', title) AS x FROM movies
    UNION ALL SELECT body, LLM('y', body) FROM reviews;
CREATE VIEW with_cte AS WITH movies AS (SELECT body FROM reviews WHERE stars > 3)
    SELECT body, LLM('x', body) AS x FROM movies;
CREATE VIEW "Odd View" AS SELECT "select", LLM('x', "q""uote") AS "a ""b"" c" FROM "odd table";
CREATE VIEW "😀" AS SELECT id, LLM('x', title) AS x FROM movies;
CREATE TEMP VIEW passing AS SELECT id, LLM('x', title) AS x FROM movies;
CREATE VIEW lambdas AS SELECT id, list_transform([title], lambda t: (t || '!')) AS l,
    LLM('x', title) AS x FROM movies WHERE LLM_FILTER('q', title);
CREATE VIEW plain AS SELECT id, title FROM movies;
CREATE VIEW twice AS SELECT a.id, a.mood, b.mood AS other FROM moods a JOIN moods b USING (id);
"""

STATEMENTS = [
    "FROM moods",
    "SELECT * FROM moods ORDER BY id LIMIT 3",
    "SELECT title FROM moods",
    "SELECT count(*) FROM moods",
    "SELECT mood, count(*) FROM moods GROUP BY mood",
    "SELECT mood, count(*) FROM moods WHERE genre = 'drama' GROUP BY ALL HAVING count(*) > 1",
    "SELECT title, LLM('again', mood) FROM moods WHERE LLM_FILTER('q', title)",
    'SELECT number, "the title" FROM sad',
    "SELECT s.number FROM sad s",
    "SELECT x.a, why FROM sad AS x(a)",
    "SELECT sad.number, main.sad.why, memory.main.sad.number FROM main.sad",
    "SELECT number FROM memory.main.sad WHERE number < 20",
    "SELECT why FROM recent ORDER BY number DESC LIMIT 2",
    "SELECT * FROM recent r JOIN moods m ON m.id = r.number",
    "SELECT * FROM unnamed",
    "SELECT * FROM unnamed u JOIN plain p USING (id)",
    "SELECT id FROM unnamed WHERE id < 5",
    "SELECT id, score FROM stars WHERE stars > 3 AND score > 0.5",
    "SELECT * EXCLUDE (body) FROM stars ORDER BY id",
    "SELECT stars FROM stars WHERE id < 9",
    "SELECT e.price, e.tags[1] FROM facts WHERE id < 40",
    "SELECT avg(n), max(c) FROM grouped",
    "SELECT c FROM grouped WHERE n > 3 ORDER BY c",
    "SELECT title, count(*) FROM both_sides GROUP BY title",
    "SELECT * FROM first",
    "SELECT id FROM first WHERE x > 'answer 8'",
    "SELECT x, t FROM several",
    "SELECT count(*) FROM with_cte",
    "WITH movies AS (SELECT 'captured' AS title, 1 AS id) SELECT * FROM moods, movies",
    "WITH reviews AS (SELECT 1 AS a) SELECT x FROM with_cte",
    "WITH moods AS (SELECT 1 AS id), a AS (SELECT id + 1 AS n FROM moods) SELECT * FROM a, moods",
    "WITH moods AS (SELECT id, mood FROM moods WHERE id < 7) SELECT * FROM moods",
    "WITH moods AS (SELECT 1 AS id) SELECT m.id, m.mood, c.id FROM main.moods m, moods c",
    'SELECT "a ""b"" c" FROM "Odd View" WHERE "select" = \'x\'',
    'SELECT "odd view"."select" FROM "odd view"',
    'SELECT x FROM "😀" WHERE id = 3',
    "SELECT x FROM passing WHERE id < 4",
    "SELECT l[1], x FROM lambdas WHERE id < 14",
    "SELECT x FROM temp.passing WHERE id < 4",
    "SELECT * FROM plain WHERE LLM_FILTER('q', title)",
    "SELECT * FROM twice WHERE id < 12",
    "SELECT a.mood, b.mood FROM moods a JOIN moods b ON a.id = b.id + 1 WHERE a.id < 9",
    "SELECT title FROM movies WHERE id IN (SELECT number FROM sad)",
    "SELECT title, (SELECT max(score) FROM stars) AS best FROM movies",
    "SELECT id FROM moods WHERE mood IS NOT NULL EXCEPT SELECT number FROM sad",
    "SELECT x FROM (FROM passing) WHERE id < 3",
]


@pytest.fixture(scope="module")
def viewed() -> Iterator[Pair]:
    pair = open_pair()
    pair.define(VIEWS)
    assert (pair.planned_fake.calls, pair.naive_fake.calls) == (0, 0), "CREATE VIEW asks nothing"
    yield pair
    close_pair(pair)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_view_is_planned_and_equals_the_naive_plan(viewed: Pair, sql: str) -> None:
    assert_equal(viewed, sql)
    explained = viewed.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    assert "scalar function" not in explained[1], explained[1]


@pytest.fixture
def views(con: Connection, fake: FakeProvider) -> Iterator[Connection]:
    con.execute(VIEWS)
    assert fake.calls == 0
    yield con


@pytest.mark.parametrize(
    "sql", ["FROM moods", "CREATE TABLE kept AS FROM moods", "SUMMARIZE moods"]
)
def test_a_statement_over_a_view_is_one_statement(views: Connection, sql: str) -> None:
    views.execute("INSERT INTO movies SELECT i, 't', 's' || i, 0, '' FROM range(100, 5000) r(i)")
    views.execute(sql).fetchall()
    [(text, calls)] = views.execute("SELECT sql, calls FROM llm_queries()").fetchall()
    assert (text.removeprefix("CREATE TABLE kept AS "), calls) == (sql[-len(text) :], 4905)


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE moods",
        "DESCRIBE SELECT * FROM sad",
        "SHOW ALL TABLES",
        "SHOW moods",
        "FROM information_schema.columns",
        "FROM duckdb_views()",
        "PRAGMA table_info('moods')",
        "COMMENT ON VIEW moods IS 'x'",
        "ALTER VIEW moods RENAME TO feelings",
        "CREATE OR REPLACE VIEW recent AS SELECT number FROM sad",
        "DROP VIEW sad",
        "WITH moods AS (SELECT 1) FROM moods",
        "SELECT moods FROM (SELECT 1 AS moods)",
        "CREATE TABLE IF NOT EXISTS s (sad INTEGER)",
        "EXPLAIN FROM moods",
    ],
)
def test_a_statement_that_only_names_a_view_asks_nothing(viewed: Pair, sql: str) -> None:
    con, fake = viewed.planned, viewed.planned_fake
    calls, statements = fake.calls, len(con.llm_engine.history)
    con.execute("BEGIN")
    try:
        con.execute(sql).fetchall()
    finally:
        con.execute("ROLLBACK")
    assert (fake.calls, len(con.llm_engine.history)) == (calls, statements)


def test_a_limit_over_a_view_stops_early(con: Connection, fake: FakeProvider) -> None:
    con.execute("CREATE TABLE big AS SELECT i, 'text ' || i AS t FROM range(5000) r(i)")
    con.execute("CREATE VIEW seen AS SELECT i, LLM('x', t) AS x FROM big")
    con.execute("CREATE VIEW chosen AS SELECT * FROM seen WHERE i > 5")
    assert len(con.execute("FROM chosen LIMIT 10").fetchall()) == 10
    assert fake.calls == 10


def test_a_views_own_column_names_are_those_of_its_query(con: Connection) -> None:
    con.execute("CREATE VIEW v AS SELECT id, LLM('x', title) FROM movies")
    expected = con.sql("SELECT id, LLM('x', title) FROM movies").columns
    assert con.sql("FROM v").columns == expected == ["id", "llm('x', title)"]
    assert [row[0] for row in con.execute("DESCRIBE v").fetchall()] == expected


@pytest.mark.parametrize("words", ["DESCRIBE", "DESC", "describe /* of */"])
@pytest.mark.parametrize("form", ["{}", "({})", "FROM ({})", "WITH w AS ({}) SELECT * FROM w"])
def test_describe_names_columns_as_the_query_does_and_asks_nothing(
    con: Connection, fake: FakeProvider, words: str, form: str
) -> None:
    query = form.format("SELECT id, LLM_FILTER('x', title), LLM('y', title) AS y FROM movies")
    described = con.execute(f"{words} {query}").fetchall()
    assert fake.calls == 0 and not con.llm_engine.history
    con.execute(f"{query} LIMIT 1" if form != "({})" else query).fetchall()
    assert [row[:2] for row in described] == [
        (name, str(type_)) for name, type_, *_ in con.description
    ]


def test_names_in_a_view_mean_what_they_mean_to_duckdb(con: Connection) -> None:
    con.execute(
        "CREATE SCHEMA other; CREATE TABLE other.t AS SELECT 'other' AS s;"
        "CREATE TABLE t AS SELECT 'main' AS s;"
        "CREATE VIEW other.v AS SELECT s, LLM('x', s) AS x FROM t;"
        "ATTACH ':memory:' AS aside; CREATE TABLE aside.t AS SELECT 'aside' AS s;"
        "CREATE VIEW aside.v AS SELECT s, LLM('x', s) AS x FROM t"
    )

    def reads(name: str) -> str:
        [(planned,)] = con.execute(f"SELECT s FROM {name} WHERE x IS NOT NULL").fetchall()
        [(plain,)] = con._raw.execute(f"SELECT s FROM {name}").fetchall()
        assert planned == plain
        return str(planned)

    assert [reads("other.v"), reads("aside.v"), reads("aside.main.v")] == [
        "other",
        "aside",
        "aside",
    ]
    con.execute("USE other")
    assert [reads("v"), reads("aside.v")] == ["other", "aside"]
    con.execute("SET search_path = 'aside.main,memory.main'")
    assert reads("v") == "aside"
    con.execute("USE memory; CREATE TEMP TABLE t AS SELECT 'temp' AS s")
    assert [reads("other.v"), reads("aside.v")] == ["temp", "temp"]


def test_a_table_that_changes_under_a_view_is_duckdbs_error(views: Connection) -> None:
    views.execute("ALTER TABLE movies DROP COLUMN genre; DROP TABLE reviews")
    for sql in ("FROM stars", "SELECT id FROM moods"):
        with pytest.raises(duckdb.Error) as plain:
            views._raw.execute(sql)
        with pytest.raises(type(plain.value)) as ours:
            views.execute(sql)
        assert str(ours.value).split("\n")[0] == str(plain.value).split("\n")[0]


# What is known of the catalog stays right


def one_statement(con: Connection, sql: str) -> bool:
    before = len(con.llm_engine.history)
    con.execute(sql).fetchall()
    return [stats.sql for stats in list(con.llm_engine.history)[before:]] == [sql]


def test_views_of_a_file_are_known_when_it_is_opened_or_attached(tmp_path: Path) -> None:
    path = str(tmp_path / "views.db")
    with quackllm.connect(path, provider=FakeProvider(), progress=False) as con:
        con.execute(TABLES)
        con.execute(VIEWS.replace("TEMP ", ""))
    with quackllm.connect(path, provider=FakeProvider(), progress=False) as con:
        assert one_statement(con, "SELECT count(mood) FROM moods")
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute(f"ATTACH '{path}' AS kept; SELECT count(mood) FROM kept.moods")
        assert [stats.calls for stats in con.llm_engine.history] == [5]
        assert one_statement(con, "SELECT count(why) FROM kept.recent")


def test_the_catalog_is_looked_into_only_when_it_may_have_changed(con: Connection) -> None:
    for sql in (
        "SELECT 'import', 1 AS attach",
        "CREATE VIEW v AS SELECT LLM('x', title) FROM movies",
    ):
        con.execute(sql)
        assert not con.llm_engine.stored.outdated, sql
    for sql in ("ATTACH ':memory:' AS a", "SELECT 1;\n-- why\nATTACH ':memory:' AS b"):
        con.execute(sql)
        assert con.llm_engine.stored.outdated, sql
        con.execute("SELECT 1")
        assert not con.llm_engine.stored.outdated


def test_a_view_is_known_after_create_rename_rollback_and_on_cursors(con: Connection) -> None:
    con.execute("CREATE VIEW a AS SELECT LLM('x', title) AS x FROM movies; CREATE VIEW b AS FROM a")
    assert one_statement(con, "SELECT max(x) FROM b")
    con.execute("ALTER VIEW b RENAME TO renamed")
    assert one_statement(con, "SELECT max(x) FROM renamed")
    con.execute("BEGIN; DROP VIEW renamed; ROLLBACK")
    assert one_statement(con, "SELECT min(x) FROM renamed")
    cursor = con.cursor()
    assert one_statement(cursor, "SELECT min(x) FROM renamed")
    cursor.execute("CREATE TEMP VIEW own AS SELECT x FROM renamed")
    assert one_statement(cursor, "FROM own")
    con.sql("SELECT LLM('x', title) AS x FROM movies").create_view("made")
    assert one_statement(con, "SELECT max(x) FROM made")


def test_a_view_that_plain_duckdb_made_is_known_at_the_latest_when_it_was_read(
    con: Connection,
) -> None:
    con.execute("CREATE VIEW v AS SELECT LLM('x', title) AS x FROM movies")
    con._raw.cursor().execute("CREATE VIEW over_v AS SELECT x || '!' AS y FROM v")
    con.execute("SELECT max(y) FROM over_v").fetchall()
    assert one_statement(con, "SELECT min(y) FROM over_v")


def test_relations_over_views_are_planned(views: Connection, fake: FakeProvider) -> None:
    relation = views.table("moods").filter("id < 4")
    assert fake.calls == 0
    assert len(relation.fetchall()) == len(relation.fetchall()) == 4
    assert fake.calls == 3
    assert "model 1" in views.sql("FROM sad").explain()
    assert [stats.calls for stats in views.llm_engine.history] == [3]


def test_a_registered_object_hides_a_view(views: Connection, fake: FakeProvider) -> None:
    import pyarrow as pa

    views.register("moods", pa.table({"a": [1]}))
    assert views.execute("FROM moods").fetchall() == [(1,)]
    views.unregister("moods")
    assert len(views.execute("FROM moods").fetchall()) == 30
    assert fake.calls > 0


@pytest.mark.parametrize("method", ["sql", "execute"])
def test_a_view_with_calls_is_summarized(method: str) -> None:
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute("CREATE VIEW v AS SELECT LLM('x', i) AS said FROM range(3) r(i)")
        [row] = getattr(con, method)("SUMMARIZE v").fetchall()
        assert row[:2] == ("said", "VARCHAR")
        assert con.llm_engine.history[-1].calls == 3


@pytest.mark.parametrize(
    ("statement", "calls"),
    [
        ("FROM moods USING SAMPLE 5 ROWS", 5),
        ("FROM moods TABLESAMPLE reservoir(4 ROWS)", 4),
        ("SELECT mood FROM moods WHERE id % 2 = 0 USING SAMPLE 6 ROWS", 6),
        ("SELECT * FROM moods m TABLESAMPLE reservoir(8 ROWS) USING SAMPLE 3 ROWS", 3),
        ("SELECT count(*) FROM (FROM moods USING SAMPLE 5 ROWS) WHERE mood = 'positive'", 5),
        ("SELECT id FROM moods USING SAMPLE 5 ROWS", 0),
    ],
)
def test_a_sample_of_a_view_asks_about_the_rows_of_the_sample(
    statement: str, calls: int, views: Connection, fake: FakeProvider
) -> None:
    """A look at ten rows of a view costs ten calls."""
    views.execute(statement).fetchall()
    assert fake.calls <= calls


@pytest.mark.parametrize(
    "statement",
    [
        "FROM moods USING SAMPLE reservoir(5 ROWS) REPEATABLE (42)",
        "FROM moods TABLESAMPLE bernoulli(20%) REPEATABLE (3)",
        "SELECT mood FROM moods WHERE id % 2 = 0 USING SAMPLE reservoir(9 ROWS) REPEATABLE (1)",
        "SELECT why FROM sad USING SAMPLE reservoir(3 ROWS) REPEATABLE (42)",
        "FROM first USING SAMPLE reservoir(2 ROWS) REPEATABLE (5)",
    ],
)
def test_a_repeatable_sample_of_a_view_is_of_the_same_rows(statement: str, viewed: Pair) -> None:
    assert_equal(viewed, statement)
