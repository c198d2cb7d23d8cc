"""Promise 1 with LLM functions: everything people do with a duckdb connection."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Request
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Choice, FreeText

GLOBAL_FRAME = pd.DataFrame({"v": ["g"]})


def say(request: Request) -> str:
    """Free text repeats its fields in capitals; a filter is true where there is an 'a'."""
    values = json.loads(request.fields)
    if isinstance(request.answer, Choice):
        return "true" if "a" in str(values) else "false"
    assert isinstance(request.answer, FreeText)
    return "+".join(str(value).upper() for value in values.values())


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(answer=say)


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(i, v)")
        yield connection


def leftovers(con: Connection) -> list[Any]:
    """Tables and views of ours that a user can see."""
    rows: list[Any] = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE starts_with(table_name, '__llm') UNION ALL "
        "SELECT view_name FROM duckdb_views() WHERE starts_with(view_name, '__llm')"
    ).fetchall()
    return rows


# Fetching


def test_every_way_of_fetching_gives_the_rows(con: Connection) -> None:
    sql = "SELECT i, LLM('x', v) AS w FROM t ORDER BY i"
    rows = [(1, "A"), (2, "B")]
    assert con.execute(sql).fetchall() == rows
    assert con.execute(sql).fetchone() == rows[0]
    assert con.execute(sql).fetchmany(1) == rows[:1]
    assert con.fetchmany(5) == rows[1:]
    assert con.fetchone() is None
    assert con.execute(sql).df()["w"].tolist() == ["A", "B"]
    assert con.execute(sql).fetchnumpy()["w"].tolist() == ["A", "B"]
    relation = con.sql(sql)
    assert relation.fetchall() == rows
    assert relation.fetchall() == rows
    assert relation.df()["w"].tolist() == ["A", "B"]
    assert relation.pl()["w"].to_list() == ["A", "B"]
    assert relation.to_arrow_table()["w"].to_pylist() == ["A", "B"]
    assert relation.to_arrow_reader(1).read_all()["w"].to_pylist() == ["A", "B"]
    assert pa.table(relation)["w"].to_pylist() == ["A", "B"]
    assert relation.shape == (2, 2)
    assert len(relation) == 2


def test_description_and_types_are_those_of_the_functions(con: Connection) -> None:
    con.execute("SELECT LLM_FILTER('x', v) AS f, LLM('n', v) FROM t")
    assert con.description is not None
    assert [(column[0], str(column[1])) for column in con.description] == [
        ("f", "BOOLEAN"),
        ("llm('n', v)", "VARCHAR"),
    ]
    assert con.rowcount == -1


def test_a_result_can_be_left_half_read(con: Connection) -> None:
    con.execute("SELECT LLM('x', v) FROM t").fetchone()
    assert con.execute("SELECT LLM('x', v) FROM t ORDER BY i").fetchone() == ("A",)
    assert con.execute("SELECT count(*) FROM t").fetchall() == [(2,)]
    assert leftovers(con) == []


# Parameters


@pytest.mark.parametrize(
    ("sql", "given", "expected"),
    [
        ("SELECT LLM(?, v) FROM t ORDER BY i LIMIT ?", ["hey", 1], [("A",)]),
        ("SELECT LLM($2, v), $1 FROM t ORDER BY i LIMIT $1", [1, "hi"], [("A", 1)]),
        ("SELECT LLM(?2, v) FROM t ORDER BY i LIMIT ?1", [1, "hi"], [("A",)]),
        ("SELECT LLM($p, $Value) LIMIT $limit", {"P": "x", "value": "c", "limit": 1}, [("C",)]),
        ("SELECT LLM('x', {'k': ?}, v) FROM t WHERE i < ?", ["q", 2], [("Q+A",)]),
        ("SELECT LLM('x', v, temperature := ?) FROM t WHERE i = 1", [0.5], [("A",)]),
        ("SELECT LLM('a ? or $1', v) FROM t WHERE i = ?", [1], [("A",)]),
        ("CREATE OR REPLACE TABLE q AS SELECT 1; SELECT LLM('x', ?)", ["z"], [("Z",)]),
    ],
)
def test_parameters_stand_anywhere(con: Connection, sql: str, given: Any, expected: Any) -> None:
    assert con.execute(sql, given).fetchall() == expected
    assert con.sql(sql, params=given).fetchall() == expected


def test_prompt_given_as_a_parameter_is_the_instruction(
    con: Connection, fake: FakeProvider
) -> None:
    con.execute("SELECT LLM(?, v) FROM t", ["Say it loud"]).fetchall()
    assert all("Say it loud" in request.instruction for request in fake.requests)
    assert all("Say it loud" not in request.fields for request in fake.requests)


def test_executemany_runs_once_per_set(con: Connection) -> None:
    con.execute("CREATE TABLE out (i INTEGER, w VARCHAR)")
    con.executemany("INSERT INTO out SELECT ?, LLM('x', ?)", [[1, "a"], [2, "b"]])
    assert con.execute("FROM out ORDER BY i").fetchall() == [(1, "A"), (2, "B")]


def test_prepared_statements_run(con: Connection) -> None:
    con.execute("PREPARE p AS SELECT LLM('x', v) FROM t WHERE i = $1")
    assert con.execute("EXECUTE p(2)").fetchall() == [("B",)]
    con.execute("PREPARE q AS SELECT LLM('x', $1)")
    assert con.execute("EXECUTE q('zz')").fetchall() == [("ZZ",)]


# Statements of other kinds


def test_statements_that_store_rows(con: Connection, tmp_path: Path) -> None:
    con.execute("CREATE TABLE c AS SELECT i, LLM('x', v) AS w FROM t")
    assert con.fetchall() == [(2,)]
    con.execute("INSERT INTO c SELECT i + 2, LLM('x', v) FROM t RETURNING w")
    assert sorted(con.fetchall()) == [("A",), ("B",)]
    con.execute("INSERT INTO c VALUES (9, LLM('x', 'z'))")
    con.execute("INSERT INTO c BY NAME SELECT LLM('x', 'y') AS w")
    con.execute("CREATE OR REPLACE TEMP TABLE d AS WITH q AS (FROM t) SELECT LLM('x', v) FROM q")
    path = tmp_path / "out.csv"
    con.execute(f"COPY (SELECT LLM('x', v) AS w FROM t ORDER BY i) TO '{path}' (HEADER false)")
    assert path.read_text().split() == ["A", "B"]
    assert con.execute("SELECT w FROM c ORDER BY ALL").fetchall() == [
        ("A",), ("A",), ("B",), ("B",), ("Y",), ("Z",),
    ]  # fmt: skip
    assert leftovers(con) == []


def test_statements_that_change_rows(con: Connection) -> None:
    con.execute("UPDATE t SET v = LLM('x', v) WHERE LLM_FILTER('has a', v)")
    assert con.fetchall() == [(1,)]
    assert con.execute("FROM t ORDER BY i").fetchall() == [(1, "A"), (2, "b")]
    assert con.execute("DELETE FROM t WHERE LLM('x', v) = 'B' RETURNING i").fetchall() == [(2,)]
    con.execute(
        "MERGE INTO t USING (SELECT 1 AS k) s ON t.i = s.k "
        "WHEN MATCHED THEN UPDATE SET v = LLM('x', {'v': v || 'q'})"
    )
    assert con.execute("FROM t").fetchall() == [(1, "AQ")]


def test_sql_of_statements_that_are_no_queries_is_duckdbs(con: Connection) -> None:
    with duckdb.connect() as plain:
        expected = plain.sql("CREATE TABLE c AS SELECT 1")
    assert (con.sql("CREATE TABLE c AS SELECT LLM('x', v) FROM t") is None) == (expected is None)
    assert con.sql("INSERT INTO c VALUES (LLM('x', 'q')) RETURNING *").fetchall() == [("Q",)]
    assert (con.sql("SET llm_cache = true") is None) == (expected is None)
    assert con.sql("EXPLAIN SELECT LLM('x', v) FROM t").columns == ["explain_key", "explain_value"]


def test_views_and_macros_with_calls_are_used_afterwards(con: Connection) -> None:
    con.execute("CREATE VIEW good AS SELECT i, LLM('x', v) AS w FROM t WHERE LLM_FILTER('f', v)")
    con.execute("CREATE MACRO loud(x) AS LLM('say', {'v': x})")
    con.execute("CREATE MACRO louder(n) AS TABLE SELECT LLM('x', v) FROM t WHERE i = n")
    assert con.execute("FROM good").fetchall() == [(1, "A")]
    assert con.execute("SELECT loud(v || '!') FROM t ORDER BY i").fetchall() == [("A!",), ("B!",)]
    assert con.execute("FROM louder(2)").fetchall() == [("B",)]
    assert con.execute("SELECT LLM('again', w) FROM good").fetchall() == [("A",)]


@pytest.mark.parametrize("form", ["EXPLAIN", "EXPLAIN ANALYZE", "EXPLAIN (FORMAT json)"])
def test_explain_forms(con: Connection, fake: FakeProvider, form: str) -> None:
    [(key, value)] = con.execute(f"{form} SELECT LLM('x', v) FROM t").fetchall()
    assert key == ("analyzed_plan" if "ANALYZE" in form else "llm_plan")
    assert fake.calls == (2 if "ANALYZE" in form else 0)
    if "json" in form:
        json.loads(value)


def test_explain_of_a_statement_that_stores_rows_runs_nothing(
    con: Connection, fake: FakeProvider
) -> None:
    [(key, _)] = con.execute("EXPLAIN CREATE TABLE c AS SELECT LLM('x', v) FROM t").fetchall()
    assert key == "llm_plan"
    assert fake.calls == 0
    con.execute("EXPLAIN UPDATE t SET v = LLM('x', v)").fetchall()
    assert fake.calls == 0


def test_scripts_mix_ours_and_duckdbs(con: Connection) -> None:
    script = """
        SET llm_cache = true; -- LLM('not ; this')
        CREATE TABLE s AS SELECT LLM('a; -- b', 'x;y') AS w; /* ; LLM( */
        INSERT INTO s SELECT LLM($$;$$, ';');;
        SELECT * FROM s ORDER BY ALL
    """
    assert con.execute(script).fetchall() == [(";",), ("X;Y",)]
    assert con.sql("SELECT 1; SELECT LLM('x', 'k')").fetchall() == [("K",)]


def test_a_script_stops_at_the_first_error(con: Connection) -> None:
    with pytest.raises(duckdb.CatalogException):
        con.execute("CREATE TABLE s1 AS SELECT LLM('x', 'y'); FROM none; CREATE TABLE s2 (a INT)")
    assert con.execute("SELECT count(*) FROM s1").fetchall() == [(1,)]
    with pytest.raises(duckdb.CatalogException):
        con.execute("FROM s2")


# Python variables as tables


def test_variables_are_tables(con: Connection) -> None:
    frame = pd.DataFrame({"v": ["p", None]})
    polar = pl.DataFrame({"v": ["q"]})
    lazy = polar.lazy()
    arrow = pa.table({"v": ["r"]})
    arrays = {"v": np.array(["s"], dtype=object)}
    for name, expected in [
        ("frame", [("P",), (None,)]),
        ("polar", [("Q",)]),
        ("lazy", [("Q",)]),
        ("arrow", [("R",)]),
        ("arrays", [("S",)]),
        ("GLOBAL_FRAME", [("G",)]),
    ]:
        sql = f"SELECT LLM('x', v) FROM {name}"
        assert con.execute(sql).fetchall() == expected, name
        assert con.sql(sql).fetchall() == expected, name
        assert con.sql(f"FROM {name}").project("LLM('x', v)").fetchall() == expected, name
        con.execute(f"CREATE OR REPLACE TABLE c AS {sql}")
        assert con.execute("FROM c").fetchall() == expected, name
    assert con.execute("UPDATE t SET v = LLM('x', arrow.v) FROM arrow").fetchall() == [(2,)]
    assert (len(frame), lazy is not None, len(arrow), len(arrays)) == (2, True, 1, 1)
    assert con.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall() == [
        (0,)
    ]


def test_a_stream_that_can_be_read_once_is_read_once(con: Connection) -> None:
    """A staged statement scans its tables several times: rows must not get lost."""
    table = pa.table({"v": ["a", "b", "a"]})
    sql = "SELECT v, LLM('x', v) FROM {} WHERE LLM('y', v) IS NOT NULL ORDER BY v"
    expected = [("a", "A"), ("a", "A"), ("b", "B")]
    stream = table.to_reader()
    assert con.execute(sql.format("stream")).fetchall() == expected
    stream = table.to_reader()
    relation = con.sql(sql.format("stream"))
    assert stream is not None
    assert relation.fetchall() == expected
    assert relation.filter("v = 'b'").fetchall() == expected[2:]
    con.register("registered", table.to_reader())
    assert con.execute(sql.format("registered")).fetchall() == expected
    assert con.execute(sql.format("registered")).fetchall() == expected
    con.register("registered", table.to_reader())
    assert con.execute("SELECT count(*) FROM registered").fetchall() == [(3,)]


def test_a_column_may_have_the_name_of_a_variable(con: Connection) -> None:
    v = pd.Series([1, 2])
    i = pd.DataFrame({"x": [1]})
    assert con.execute("SELECT LLM('x', v, i) FROM t WHERE i = 1 AND v = 'a'").fetchall() == [
        ("A+1",)
    ]
    assert (len(v), len(i)) == (2, 1)


def test_a_table_goes_before_a_variable_and_a_cte_before_both(con: Connection) -> None:
    t = pd.DataFrame({"v": ["no"]})
    assert con.execute("SELECT LLM('x', v) FROM t WHERE i = 1").fetchall() == [("A",)]
    assert con.execute("WITH t AS (SELECT 'c' AS v) SELECT LLM('x', v) FROM t").fetchall() == [
        ("C",)
    ]
    assert len(t) == 1


def test_a_table_of_another_schema_does_not_hide_a_variable(con: Connection) -> None:
    con.execute("CREATE SCHEMA s; CREATE TABLE s.frame (v VARCHAR)")
    frame = pl.DataFrame({"v": ["q"]})
    assert con.execute("SELECT LLM('x', v) FROM frame").fetchall() == [("Q",)]
    assert len(frame) == 1


def test_registered_objects(con: Connection) -> None:
    con.register("reg", pd.DataFrame({"v": ["p"]}))
    assert con.execute("SELECT LLM('x', v) FROM reg").fetchall() == [("P",)]
    con.unregister("reg")
    with pytest.raises(duckdb.CatalogException, match="reg"):
        con.execute("SELECT LLM('x', v) FROM reg")


# Cursors


def test_cursors_share_database_and_engine(con: Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_on_error = 'error'")
    cursor = con.cursor()
    assert cursor.llm_settings.on_error == "error"
    cursor.execute("SET llm_on_error = 'null'")
    assert con.llm_settings.on_error == "error"
    assert cursor.execute("SELECT LLM('x', v) FROM t ORDER BY i").fetchall() == [("A",), ("B",)]
    assert con.execute("SELECT LLM('x', v) FROM t ORDER BY i").fetchall() == [("A",), ("B",)]
    assert fake.calls == 2


def test_a_cursor_outlives_a_connection_that_nobody_holds() -> None:
    con = quackllm.connect(provider=FakeProvider(answer=say), progress=False)
    cursor = con.cursor()
    del con
    gc.collect()
    assert cursor.execute("SELECT LLM('x', 'a')").fetchall() == [("A",)]


def test_closing_a_connection_closes_its_cursors_and_provider(fake: FakeProvider) -> None:
    con = quackllm.connect(provider=fake, progress=False)
    cursor = con.cursor()
    con.close()
    with pytest.raises(duckdb.ConnectionException):
        cursor.execute("SELECT LLM('x', 'a')")


def test_an_open_connection_that_nobody_holds_ends_its_provider() -> None:
    fake = FakeProvider(answer=say)
    con = quackllm.connect(provider=fake, progress=False)
    con.execute("SELECT LLM('x', 'a')").fetchall()
    engine = con.llm_engine
    del con
    gc.collect()
    with pytest.raises(duckdb.Error, match="closed"):
        engine.loop.run(fake.aclose())


def test_wrapping_a_connection_again_replaces_the_wrapper() -> None:
    with duckdb.connect() as raw:
        quackllm.wrap(raw, provider=FakeProvider(answer=lambda _: "old"), progress=False)
        again = quackllm.wrap(raw, provider=FakeProvider(answer=say), progress=False)
        assert again.execute("SELECT list_transform(['a'], x -> LLM('x', x))").fetchall() == [
            (["A"],)
        ]
        again.close()


def test_what_is_no_connection_cannot_be_wrapped() -> None:
    with pytest.raises(TypeError, match=r"not a str; quackllm\.connect\(database\) opens one"):
        quackllm.wrap("shop.duckdb")  # type: ignore[arg-type]


def test_another_connection_of_the_process_cannot_take_the_functions_over(tmp_path: Path) -> None:
    """Its calls would be answered by the model of the first: an error says what to do."""
    path = str(tmp_path / "one.duckdb")
    with (
        quackllm.connect(path, provider=FakeProvider()),
        pytest.raises(duckdb.Error, match="cursor"),
    ):
        quackllm.connect(path, provider=FakeProvider())
