"""Relations over LLM calls: DuckDB's methods, rows asked for once, nothing left behind."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from quackllm.engine.connection import Connection
from quackllm.engine.relation import IN_PLACE, RUNNING
from quackllm.testing import FakeProvider
from tests.engine.test_connection import con as con
from tests.engine.test_connection import fake as fake
from tests.engine.test_connection import leftovers

SQL = "SELECT i, LLM('x', v) AS w, LLM_FILTER('f', v) AS f FROM t"


def test_nothing_is_asked_before_rows_are_wanted(con: Connection, fake: FakeProvider) -> None:
    relation = con.sql(SQL).filter("f").project("w").limit(5).set_alias("q")
    assert (relation.columns, [str(t) for t in relation.types]) == (["w"], ["VARCHAR"])
    assert relation.alias == "q"
    assert not hasattr(relation, "no_such_method")
    assert "LLM" in relation.explain()
    assert fake.calls == 0


def test_looking_twice_asks_once(con: Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_cache = false")
    relation = con.sql(SQL)
    repr(relation)
    relation.fetchall()
    relation.df()
    len(relation)
    if hasattr(relation, "execute"):  # gone in DuckDB 2
        assert relation.execute() is relation
    assert fake.calls == 4


def test_chained_methods(con: Connection) -> None:
    relation = con.sql(SQL)
    assert relation.filter("f").fetchall() == [(1, "A", True)]
    assert relation.project("w").order("w DESC").limit(1).fetchall() == [("B",)]
    assert relation.aggregate("f, count(*) AS n").order("f").fetchall() == [(False, 1), (True, 1)]
    assert relation.count("*").fetchall() == [(2,)]
    assert relation.union(relation).count("*").fetchall() == [(4,)]
    joined = relation.join(con.table("t").set_alias("o"), "i").project("w, v").order("v")
    assert joined.fetchall() == [("A", "a"), ("B", "b")]
    assert relation.set_alias("zz").filter("zz.f").project("zz.w").fetchall() == [("A",)]
    assert relation.distinct().except_(relation).fetchall() == []
    assert relation["w"].order("w").fetchall() == [("A",), ("B",)]
    assert "w" in relation


def test_calls_in_the_text_of_methods(con: Connection) -> None:
    table = con.table("t")
    assert table.filter("LLM_FILTER('f', v)").fetchall() == [(1, "a")]
    assert table.filter(duckdb.SQLExpression("LLM_FILTER('f', v)")).fetchall() == [(1, "a")]
    assert table.project("i, LLM('x', v) AS w").order("i").fetchall() == [(1, "A"), (2, "B")]
    assert table.aggregate("LLM_FILTER('f', v) AS f, sum(i)").order("f").fetchall() == [
        (False, 2), (True, 1),
    ]  # fmt: skip
    assert table.order("LLM('x', v) DESC").fetchall() == [(2, "b"), (1, "a")]
    assert table.query("q", "SELECT LLM('x', v) FROM q ORDER BY i").fetchall() == [("A",), ("B",)]
    assert con.values(["k"]).project("LLM('x', col0)").fetchall() == [("K",)]


def test_relations_of_python_objects(con: Connection) -> None:
    frame = pd.DataFrame({"v": ["p"]})
    assert con.from_df(frame).project("LLM('x', v)").fetchall() == [("P",)]
    assert con.from_arrow(pa.table({"v": ["r"]})).filter("LLM('x', v) = 'R'").fetchall() == [("r",)]
    relation = con.sql("SELECT v, LLM('x', v) AS w FROM frame")
    del frame
    gc.collect()
    assert relation.filter("w = 'P'").fetchall() == [("p", "P")]
    assert con.sql("SELECT ? AS v", params=["k"]).project("LLM('x', v)").fetchall() == [("K",)]


def test_a_relation_is_a_table_in_later_statements(con: Connection, fake: FakeProvider) -> None:
    relation = con.sql(SQL)
    assert con.sql("SELECT count(*) FROM relation WHERE f").fetchall() == [(1,)]
    assert con.execute("SELECT LLM('again', w) FROM relation WHERE i = 1").fetchall() == [("A",)]
    assert con.sql("SELECT LLM('again', w) FROM relation ORDER BY i").fetchall() == [("A",), ("B",)]
    con.execute("CREATE TABLE kept AS SELECT w, LLM('third', w) AS z FROM relation")
    assert con.execute("FROM kept ORDER BY w").fetchall() == [("A", "A"), ("B", "B")]
    plain = duckdb.DuckDBPyRelation
    assert isinstance(relation.quackllm_native(), plain)
    assert fake.calls == 8


def test_types_survive_a_relation_as_a_table(con: Connection) -> None:
    relation = con.sql("SELECT 1::HUGEINT AS h, '101'::BIT AS b, LLM('x', v) AS w FROM t LIMIT 1")
    read = con.sql("SELECT h, b, LLM('y', w) FROM relation")
    assert [str(t) for t in read.types][:2] == ["HUGEINT", "BIT"]
    assert read.fetchall() == [(1, "101", "A")]
    assert [str(t) for t in relation.types][:2] == ["HUGEINT", "BIT"]


def test_relations_that_store_rows(con: Connection, tmp_path: Path) -> None:
    relation = con.sql(SQL)
    relation.to_table("made")
    relation.insert_into("made")
    assert con.execute("SELECT count(*) FROM made").fetchall() == [(4,)]
    relation.create_view("seen")
    assert con.execute("SELECT w FROM seen WHERE f").fetchall() == [("A",)]
    relation.write_csv(str(tmp_path / "out.csv"))
    assert con.read_csv(str(tmp_path / "out.csv")).count("*").fetchall() == [(2,)]
    relation.write_parquet(str(tmp_path / "out.parquet"))
    assert con.read_parquet(str(tmp_path / "out.parquet")).shape == (2, 3)


def test_a_relation_outlives_later_statements(con: Connection) -> None:
    kept = con.sql(SQL).order("i")
    first = kept.fetchall()
    con.execute("SELECT LLM('other', v) FROM t").fetchall()
    con.execute("DROP TABLE t")
    assert kept.fetchall() == first
    with pytest.raises(duckdb.CatalogException):
        kept.filter("f").fetchall()


def test_nothing_stays_behind(con: Connection) -> None:
    relation = con.sql(SQL)
    relation.fetchall()
    frame = pd.DataFrame({"v": ["p"]})
    over_frame = con.sql("SELECT LLM('x', v) FROM frame")
    assert (over_frame.fetchall(), len(frame)) == ([("P",)], 1)
    del relation, over_frame
    gc.collect()
    con.execute("SELECT 1").fetchall()
    assert leftovers(con) == []
    assert con.execute("SHOW TABLES").fetchall() == [("t",)]


def test_an_error_of_a_relation_leaves_nothing_behind(con: Connection) -> None:
    with pytest.raises(duckdb.BinderException, match="LINE 1: SELECT LLM") as found:
        con.execute("SELECT LLM('x', nope) FROM t")
    assert str(found.value).splitlines()[-1].index("^") == "LINE 1: SELECT LLM('x', ".__len__()
    with pytest.raises(duckdb.BinderException):
        con.sql("SELECT LLM('x', nope) FROM t")
    with pytest.raises(duckdb.BinderException):
        con.table("t").filter("LLM_FILTER('x', nope)")
    assert leftovers(con) == []


def test_every_method_that_runs_is_known() -> None:
    """A method of DuckDB's relation that reads rows must not slip by the stages."""
    methods: set[Any] = {name for name in dir(duckdb.DuckDBPyRelation) if not name.startswith("_")}
    reading = {
        name
        for name in methods
        if name.startswith(("fetch", "to_", "write_", "iter_")) and name not in ("to_view",)
    }
    assert reading <= RUNNING
    assert IN_PLACE <= RUNNING
