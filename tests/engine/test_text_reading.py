"""What a text holds: calls found by tokens, parameters, table names, and the second reading."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.parameters import named_parameters
from quackllm.engine.reading import same_reading
from quackllm.engine.statement import (
    calls_in,
    explain_of,
    holds_calls,
    inner_query,
    is_query,
    split,
)
from quackllm.engine.variables import table_names
from quackllm.errors import BindError
from quackllm.udfs.registry import Functions

FUNCTIONS = Functions.load()


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def found(sql: str) -> list[str]:
    """The texts of the outermost calls of a script."""
    return [
        statement.sql[call.start : call.end]
        for statement in split(sql)
        for call in calls_in(statement, FUNCTIONS)
    ]


@pytest.mark.parametrize(
    ("sql", "calls"),
    [
        ("SELECT LLM('x', y)", ["LLM('x', y)"]),
        ("select llm ( 'x' , y )", ["llm ( 'x' , y )"]),
        ('SELECT "LLM"(\'x\', y)', ['"LLM"(\'x\', y)']),
        ("SELECT AI_FILTER('x', y), LLM_SCORE('s', z)", ["AI_FILTER('x', y)", "LLM_SCORE('s', z)"]),
        ("SELECT LLM('x', LLM('y', z))", ["LLM('x', LLM('y', z))"]),
        ("SELECT LLM('a)', [1, (2)], {'k': f(x)}) + 1", ["LLM('a)', [1, (2)], {'k': f(x)})"]),
        ("SELECT LLM('x', /* ) */ y -- )\n)", ["LLM('x', /* ) */ y -- )\n)"]),
        ("SELECT DISTINCT LLM('x', y)", ["LLM('x', y)"]),
        ("SELECT DISTINCT ON (a) LLM('x', y)", ["LLM('x', y)"]),
        ("SELECT a FROM t GROUP /* c */ BY LLM('x', y)", ["LLM('x', y)"]),
        ("SELECT CASE WHEN LLM('x', y) THEN LLM('a', b) ELSE LLM('c', d) END",
         ["LLM('x', y)", "LLM('a', b)", "LLM('c', d)"]),
        ("CREATE MACRO m(x) AS LLM('x', x)", ["LLM('x', x)"]),
        ("CREATE MACRO llm(x) AS TABLE SELECT LLM('x', x)", ["LLM('x', x)"]),
        ("CREATE VIEW v AS SELECT LLM('x', y)", ["LLM('x', y)"]),
        ("SELECT 1; SELECT LLM('x', y); SELECT ';LLM('", ["LLM('x', y)"]),
        # and what is none
        ("SELECT 'LLM(''x'')', \"LLM(x)\", $$LLM('x')$$, $a$ LLM('x') $a$ -- LLM('x')", []),
        ("/* LLM('x', y) /* nested LLM('x') */ */ SELECT 1", []),
        ("SELECT llm FROM llm", []),
        ("SELECT s.llm(1), llm.llm", []),
        ("SELECT 'llm'('x')", []),
        ("CREATE TABLE llm (a INTEGER)", []),
        ("CREATE TABLE IF NOT EXISTS llm (a INTEGER)", []),
        ("CREATE TABLE t (a INTEGER REFERENCES llm (a))", []),
        ("CREATE INDEX i ON llm (a)", []),
        ("INSERT INTO llm (a) VALUES (1)", []),
        ("COPY llm (a) TO 'x'", []),
        ("WITH llm(a) AS (SELECT 1) FROM llm", []),
        ("WITH x AS (SELECT 1), llm(a) AS NOT MATERIALIZED (SELECT 1) FROM llm", []),
        ("SELECT * FROM t AS llm(a)", []),
        ("SELECT * FROM t llm(a)", []),
        ("EXECUTE llm(1)", []),
        ("SELECT llm_other('x')", []),
    ],
)  # fmt: skip
def test_calls_are_found_and_nothing_else(sql: str, calls: list[str]) -> None:
    assert found(sql) == calls
    assert holds_calls(sql, FUNCTIONS) == bool(calls)


def test_arguments_are_spans_of_the_text() -> None:
    [statement] = split("SELECT LLM('a, b', f(x, y), [1, 2], {'k': 1}, * , model := 'm')")
    [call] = calls_in(statement, FUNCTIONS)
    assert [statement.sql[start:end] for start, end in call.arguments] == [
        "'a, b'", "f(x, y)", "[1, 2]", "{'k': 1}", "*", "model := 'm'",
    ]  # fmt: skip
    [statement] = split("SELECT LLM()")
    assert calls_in(statement, FUNCTIONS)[0].arguments == ()


def test_a_parenthesis_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(BindError, match="parenthesis"):
        found("SELECT LLM('x', y")


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        (" ; ;; -- c", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT ';' ; SELECT $$;$$;\n-- ;\nSELECT \";\"",
         ["SELECT ';'", "SELECT $$;$$", 'SELECT ";"']),
        ("SELECT '😀'; SELECT 'é'", ["SELECT '😀'", "SELECT 'é'"]),
    ],
)  # fmt: skip
def test_scripts_are_split_at_their_semicolons(script: str, statements: list[str]) -> None:
    assert [statement.sql for statement in split(script)] == statements
    assert all(script[s.offset :].startswith(s.sql) for s in split(script))


@given(
    st.lists(st.sampled_from(["SELECT 1", "LLM('x', y)", "';'", "-- ;\n", '"a;"', "(", "/* ; */"]))
)
def test_splitting_loses_no_statement(parts: list[str]) -> None:
    script = " ".join(parts)
    joined = " ".join(statement.sql for statement in split(script))
    assert joined.count("SELECT 1") == parts.count("SELECT 1")


@pytest.mark.parametrize(
    ("sql", "inner"),
    [
        ("CREATE TABLE t AS SELECT 1", "SELECT 1"),
        ("CREATE OR REPLACE TEMP TABLE t AS FROM x", "FROM x"),
        ("CREATE TABLE t AS (SELECT 1)", "(SELECT 1)"),
        ("CREATE TABLE t AS WITH a AS (SELECT 1) FROM a", "WITH a AS (SELECT 1) FROM a"),
        ("INSERT INTO t SELECT 1", "SELECT 1"),
        ("INSERT INTO t (a, b) SELECT 1, 2 RETURNING a", "SELECT 1, 2"),
        ("INSERT INTO t BY NAME SELECT 1 AS a ON CONFLICT DO NOTHING", "SELECT 1 AS a"),
        ("COPY (SELECT 1) TO 'x' (FORMAT csv)", "SELECT 1"),
        ("CREATE TABLE t (a INTEGER)", None),
        ("CREATE VIEW v AS SELECT 1", None),
        ("INSERT INTO t VALUES (1, (SELECT 2))", None),
        ("COPY t TO 'x'", None),
        ("UPDATE t SET a = (SELECT 1)", None),
        ("SELECT 1", None),
    ],
)
def test_the_query_whose_rows_are_stored(sql: str, inner: str | None) -> None:
    [statement] = split(sql)
    span = inner_query(statement)
    assert (None if span is None else sql[span[0] : span[1]]) == inner


def test_queries_and_explains() -> None:
    for sql in ("SELECT 1", "FROM t", "WITH a AS (FROM t) FROM a", "(SELECT 1)", "VALUES (1)"):
        [statement] = split(sql)
        assert is_query(statement) and explain_of(statement) is None
    for sql, analyze, json in [
        ("EXPLAIN SELECT 1", False, False),
        ("explain analyze SELECT 1", True, False),
        ("EXPLAIN (ANALYZE, FORMAT json) SELECT 1", True, True),
        ("EXPLAIN (FORMAT JSON) (SELECT 1)", False, True),
    ]:
        [statement] = split(sql)
        explain = explain_of(statement)
        assert explain is not None
        assert (explain.analyze, explain.json) == (analyze, json), sql
        assert sql[explain.length :].strip().strip("()") == "SELECT 1"


@pytest.mark.parametrize(
    ("sql", "values", "text", "named"),
    [
        ("SELECT ?, ?", [1, 2], "SELECT $p1, $p2", {"p1": 1, "p2": 2}),
        ("SELECT ?2, ?1", [1, 2], "SELECT $p2, $p1", {"p2": 2, "p1": 1}),
        ("SELECT $2, $1, $2", (1, 2), "SELECT $p2, $p1, $p2", {"p2": 2, "p1": 1}),
        ("SELECT $1", {"1": 7}, "SELECT $p1", {"p1": 7}),
        ("SELECT $Name, $name", {"NAME": 7}, "SELECT $name, $name", {"name": 7}),
        ("SELECT $limit", {"limit": 7}, "SELECT $limit", {"limit": 7}),
        ("SELECT '?', \"$a\", $$?$$, $x$ $1 $x$ -- ?", None,
         "SELECT '?', \"$a\", $$?$$, $x$ $1 $x$", {}),
        ("SELECT 1", [], "SELECT 1", {}),
    ],
)  # fmt: skip
def test_parameters_get_names(
    duck: duckdb.DuckDBPyConnection,
    sql: str,
    values: object,
    text: str,
    named: dict[str, object],
) -> None:
    assert named_parameters(duck, split(sql)[0], values) == (text, named)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT a FROM t", ["t"]),
        ("SELECT f(a, b), c FROM t, \"u 2\" JOIN v ON f(a, b) AND c, w WHERE x IN (FROM y)",
         ["t", "u 2", "v", "w", "y"]),
        ("FROM (x JOIN y USING (id)), (SELECT a, b FROM z) q", ["x", "y", "id", "z"]),
        ("INSERT INTO t SELECT * FROM u", ["t", "u"]),
        ("UPDATE t SET a = b, c = d FROM u", ["t", "u"]),
        ("DELETE FROM t USING u, v WHERE a", ["t", "u", "v"]),
        ("SELECT 1 FROM t UNION ALL SELECT a, b FROM u ORDER BY c, d", ["t", "u"]),
        ("SELECT LLM('x', title, year)", []),
    ],
)  # fmt: skip
def test_names_that_stand_where_tables_stand(sql: str, names: list[str]) -> None:
    assert table_names(split(sql)[0].tokens) == names


SAME = [
    ("SELECT 1", "select  1 -- c"),
    ("SELECT a FROM t", "SELECT a\nFROM t"),
    ("SELECT CAST(a AS INT) FROM t", "SELECT a::INTEGER FROM t"),
    ("SELECT a::TEXT FROM t", "SELECT CAST(a AS VARCHAR) FROM t"),
    ("SELECT 1_000", "SELECT 1000"),
    ("SELECT a <> b FROM t", "SELECT a != b FROM t"),
    ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a NULLS LAST"),
    ("SELECT (a) FROM t", "SELECT a FROM t"),
    ("SELECT a IS NOT TRUE FROM t", "SELECT NOT (a IS TRUE) FROM t"),
    ("SELECT INTERVAL (a) DAY FROM t", "SELECT INTERVAL (a) DAY FROM t"),
    ("FROM t", "SELECT * FROM t"),
    ("SELECT a;", "SELECT a"),
]

DIFFERENT = [
    ("SELECT 1", "SELECT 2"),
    ("SELECT 1", "SELECT '1'"),
    ("SELECT 1.0", "SELECT 1"),
    ("SELECT a FROM t", "SELECT b FROM t"),
    ("SELECT a FROM t", "SELECT a FROM u"),
    ("SELECT a FROM t", "SELECT a AS b FROM t"),
    ("SELECT 'a'", "SELECT 'A'"),
    ("SELECT a - (b - c) FROM t", "SELECT a - b - c FROM t"),
    ("SELECT a AND (b OR c) FROM t", "SELECT a AND b OR c FROM t"),
    ("SELECT NOT (a AND b) FROM t", "SELECT NOT a AND b FROM t"),
    ("SELECT a FROM t ORDER BY a", "SELECT a FROM t"),
    ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC"),
    ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a NULLS FIRST"),
    ("SELECT a FROM t LIMIT 1", "SELECT a FROM t LIMIT 2"),
    ("SELECT a FROM t LIMIT 1", "SELECT a FROM t LIMIT 1 OFFSET 1"),
    ("SELECT a FROM t", "SELECT DISTINCT a FROM t"),
    ("SELECT a FROM t JOIN u USING (b)", "SELECT a FROM t LEFT JOIN u USING (b)"),
    ("SELECT a FROM t JOIN u USING (b)", "SELECT a FROM t JOIN u USING (c)"),
    ("SELECT count(a) FROM t", "SELECT count(DISTINCT a) FROM t"),
    ("SELECT sum(a) FILTER (WHERE b) FROM t", "SELECT sum(a) FROM t"),
    ("SELECT sum(a) OVER (ORDER BY b) FROM t", "SELECT sum(a) OVER (PARTITION BY b) FROM t"),
    ("SELECT sum(a) OVER (ORDER BY b ROWS 1 PRECEDING) FROM t",
     "SELECT sum(a) OVER (ORDER BY b RANGE 1 PRECEDING) FROM t"),
    ("SELECT a::INTEGER FROM t", "SELECT a::BIGINT FROM t"),
    ("SELECT a::DECIMAL(9, 2) FROM t", "SELECT a::DECIMAL(9, 3) FROM t"),
    ("SELECT TRY_CAST(a AS INT) FROM t", "SELECT CAST(a AS INT) FROM t"),
    ("SELECT a FROM t UNION SELECT a FROM u", "SELECT a FROM t UNION ALL SELECT a FROM u"),
    ("SELECT a LIKE 'x' FROM t", "SELECT a ILIKE 'x' FROM t"),
    ("SELECT a // b FROM t", "SELECT a / b FROM t"),
    ("SELECT a = b FROM t", "SELECT a IS NOT DISTINCT FROM b FROM t"),
    ("SELECT a IS TRUE FROM t", "SELECT NOT (a IS TRUE) FROM t"),
    ("SELECT a[1] FROM t", "SELECT a[2] FROM t"),
    ("SELECT INTERVAL 3 DAY", "SELECT INTERVAL 3 MONTH"),
    ("SELECT {'a': 1}", "SELECT {'b': 1}"),
    ("SELECT * EXCLUDE (a) FROM t", "SELECT * FROM t"),
    ("SELECT * REPLACE (1 AS a) FROM t", "SELECT * REPLACE (2 AS a) FROM t"),
    ("SELECT a FROM t TABLESAMPLE 10%", "SELECT a FROM t TABLESAMPLE 20%"),
    ("SELECT a FROM t GROUP BY ROLLUP (a)", "SELECT a FROM t GROUP BY a"),
    ("SELECT a FROM t", "SELEC a FROM t"),
    ("SELECT 1", "SELECT 1; SELECT 1"),
    ("CREATE TABLE t (a INT)", "CREATE TABLE t (a INT)"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), SAME)
def test_spellings_of_one_statement_read_the_same(
    duck: duckdb.DuckDBPyConnection, first: str, second: str
) -> None:
    assert same_reading(duck, first, second)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_statements_that_differ_do_not_read_the_same(
    duck: duckdb.DuckDBPyConnection, first: str, second: str
) -> None:
    assert not same_reading(duck, first, second)
    assert not same_reading(duck, second, first)


def test_null_order_counts_where_the_default_is_another(duck: duckdb.DuckDBPyConnection) -> None:
    with duck.cursor() as other:
        other.execute("SET default_null_order = 'nulls_first'")
        first, last = "SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a NULLS LAST"
        assert not same_reading(other, first, last)
        other.execute("RESET default_null_order")
