"""Bad input: a clear error or a right row for each kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Request
from quackllm.errors import AuthenticationFailed, BindError, ModelNotFound, ServerUnreachable
from quackllm.testing import FakeProvider, FakeServer
from quackllm.udfs.base import Choice

WRONG = [
    ("LLM('x', title, temprature := 1)", "unknown option temprature, did you mean temperature?"),
    ("LLM('x', title, temperature := 'hot')", "temperature must be a number from 0 to 2"),
    ("LLM('x', title, max_tokens := -1)", "max_tokens must be a whole number"),
    ("LLM('x', title, on_error := 'explode')", "on_error must be 'null' or 'error'"),
    ("LLM('x', title, model := title)", "option model must be a constant, not title"),
    ("LLM('x', title, model := 'a', MODEL := 'b')", "option MODEL is given twice"),
    ("LLM('is {titel} ok?', title)", "{titel}, which is not an argument of the call"),
    ("LLM('x', title, return_type := 'NOPE')", "the type 'NOPE' cannot be read"),
    ("LLM(NULL, title)", "prompt must be a text, not NULL"),
    ("LLM('', title)", "prompt must be a text that is not empty"),
    ("LLM_FILTER('Is it good? ' || title)", "write the question as one text, and the columns"),
    ("LLM_CLASSIFY(title, 'a, b')", "not 'a, b'; write ['a', 'b']"),
    ('LLM_CLASSIFY(title, ["a", "b"])', "texts have single ones: ['a', 'b']"),
    ("LLM_CLASSIFY(title, (SELECT ['a']))", "SET VARIABLE found = (SELECT ['a']) computes it"),
    ("LLM_CLASSIFY(title, labels := ['a'])", "labels is an argument, not an option"),
    ("LLM_CLASSIFY(['a'], title)", "row to row: LLM_CLASSIFY(input, labels)"),
    ("LLM_EXTRACT(title, {'p': DOUBLE})", "a type is written as a text: {'p': 'DOUBLE'}"),
    ("LLM('x', title, return_type := DATE)", "a type is written as a text: 'DATE'"),
    ("LLM_REDUCE(title, id)", "which can differ from row to row: LLM_REDUCE(values, task)"),
    ("LLM_SIMILARITY(title)", "LLM_SIMILARITY: wrong number of arguments"),
    ("LLM(5, title)", "prompt must be a text, not 5"),
    ("LLM()", "prompt is missing: LLM(prompt"),
    ("LLM_FILTER()", "prompt is missing: LLM_FILTER(prompt"),
    ("LLM_CLASSIFY(title, title)", "labels must be a constant, not title"),
    ("LLM_CLASSIFY(title, [])", "labels are empty"),
    ("LLM_CLASSIFY(title, ['a', NULL])", "a label must be a text"),
    ("LLM_CLASSIFY(title, ['a', 'a'])", "label 'a' appears twice"),
    ("LLM_CLASSIFY(title, 5)", "labels must be a list of texts"),
    ("LLM_CLASSIFY(title)", "labels is missing"),
    ("LLM_EXTRACT(title, {'p': 'DOUBEL'})", "fields.p: the type 'DOUBEL' cannot be read"),
    ("LLM_EXTRACT(title, {'p': 'STRUCT(a'})", "expected a type, found 'the end'"),
    ("LLM_EXTRACT(title, 'x')", "fields must be a struct of field to type"),
    ("LLM_SCORE('x', title, min := 5, max := 1)", "min (5) must be less than max (1)"),
    ("LLM_SENTIMENT(title, 'b', 'c')", "too many arguments: LLM_SENTIMENT(input)"),
    ("LLM_TRANSLATE(title, '')", "language must be a text"),
    ("LLM('x', nope.*)", "the columns of nope.* cannot be listed here"),
    ("LLM(DISTINCT title)", "DISTINCT and ORDER BY are for aggregate functions"),
    ("LLM('x', title, title)", "two arguments are called title"),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
@pytest.mark.parametrize("form", ["SELECT {} FROM movies", "UPDATE movies SET title = {}"])
def test_a_wrong_call_is_a_binder_error_that_says_what_would_be_right(
    con: Connection, fake: FakeProvider, call: str, words: str, form: str
) -> None:
    with pytest.raises(BindError) as found:
        con.execute(form.format(call))
    assert isinstance(found.value, duckdb.BinderException)
    assert str(found.value).startswith("Binder Error: LLM")
    assert words in str(found.value)
    assert "\x1b" not in str(found.value)
    assert _pointed_at(str(found.value)).startswith(call.partition("(")[0])
    assert fake.calls == 0


def _pointed_at(message: str) -> str:
    """What stands above the caret of an error's excerpt, to the end of the line."""
    line, pointer = message.partition("\n\nLINE ")[2].split("\n")
    return f"LINE {line}"[pointer.index("^") :]


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT LLM('x', id),\n  LLM(id, return_type := 'X')\nFROM movies", "2: LLM(id, return"),
        ("SELECT LLM('x', id), llm(id, k := 1) FROM movies", "1: llm(id, k"),
        ("SELECT 'LLM(' || LLM('x', id, k := 1) FROM movies -- LLM()", "1: LLM('x', id, k"),
        ("SELECT LLM_AGG(LLM_SENTIMENT(id, 1), 'x') FROM movies", "1: LLM_SENTIMENT(id, 1)"),
        ("SELECT LLM_AGG(id, id) FROM movies", "1: LLM_AGG(id, id)"),
        ("SELECT LLM_AGG(id, 'x', k := 1) FROM movies", "1: LLM_AGG(id, 'x'"),
        ("SELECT LLM_SIMILARITY(id, 'x', k := 1) FROM movies", "1: LLM_SIMILARITY(id, 'x'"),
        (f"SELECT {'id + ' * 50} LLM_SENTIMENT() FROM movies", "1: LLM_SENTIMENT()"),
        ("UPDATE movies SET title = LLM_AGG(id, id)", None),
        ("UPDATE movies SET title = LLM('x', id, k := 1), genre = LLM('y', id, k := 1)", None),
    ],
)
def test_the_place_of_a_wrong_call_is_shown_where_it_is_certain(
    con: Connection, sql: str, line: str | None
) -> None:
    with pytest.raises(BindError) as found:
        con.execute(sql)
    if line is None:
        assert "LINE" not in str(found.value)
        return
    number, _, text = line.partition(": ")
    assert f"\n\nLINE {number}: " in str(found.value)
    assert _pointed_at(str(found.value)).startswith(text)
    shown = str(found.value).partition("\n\n")[2].partition("\n")[0]
    assert len(shown) < 140


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT LLM('x', nope) FROM movies", duckdb.BinderException, '"nope" not found'),
        ("SELECT LLM('x', title FROM movies", duckdb.ParserException, 'at or near "FROM"'),
        ("SELECT LLM('x' title) FROM movies", duckdb.ParserException, "syntax error"),
        ("SELECT LLM('x', 1) FROM nope", duckdb.CatalogException, "nope does not exist"),
        ("SELECT LLM('x', title) FROM movies WHERE", duckdb.ParserException, "syntax error"),
        ("SELECT LLM('x', upper(id, 1)) FROM movies", duckdb.BinderException, "upper"),
        (
            "SELECT LLM('x', title, model = 'fast') FROM movies",
            duckdb.BinderException,
            "Options of LLM functions are written model := ...",
        ),
        ("SELECT AI_GEN('x', id) FROM movies", duckdb.CatalogException, "FROM llm_functions()"),
        ("SELECT LLM_SENTIMEN(title) FROM movies", duckdb.CatalogException, '"LLM_SENTIMENT"?'),
        ("SELECT LLM('x', sql) FROM llm_querys()", duckdb.CatalogException, '"llm_queries"?'),
        ("SELECT LLM('x', sql) FROM llm_queries", duckdb.CatalogException, "llm_queries(), with"),
        ("SELECT LLM('x', 1) FROM LLM_FILTER('x', 'y')", BindError, "was used as a table: SELECT"),
        ("SELECT 1 FROM movies, llm('x') AS t", BindError, "LLM gives one value for each row"),
        ("CALL LLM_FILTER('x', 'y')", BindError, "was used as a table"),
    ],
)
def test_duckdbs_own_errors_point_into_the_text_as_written(
    con: Connection, fake: FakeProvider, sql: str, kind: type[duckdb.Error], words: str
) -> None:
    for method in (con.execute, con.sql):
        with pytest.raises(kind) as found:
            method(sql)
        assert words in str(found.value)
        assert "to_json" not in str(found.value) and "llm_call" not in str(found.value)
    assert fake.calls == 0


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT id FROM movies WHERE LLM('Is it good?', title)", "text is no condition: use LLM_"),
        ("SELECT id FROM movies WHERE LLM('x', title)::DATE > '2026-01-01'", "return_type := "),
    ],
)
def test_an_answer_of_another_type_is_explained_without_the_text_that_runs(
    con: Connection, sql: str, words: str
) -> None:
    with pytest.raises(duckdb.ConversionException, match=words) as found:
        con.execute(sql)
    assert "__llm" not in str(found.value) and "LINE" not in str(found.value)


# Providers that cannot answer


def test_missing_model_file() -> None:
    with (
        quackllm.connect(model="/no/such/file.gguf", progress=False) as con,
        pytest.raises(ModelNotFound, match=r"/no/such/file\.gguf"),
    ):
        con.execute("SELECT LLM('x', 'y')")


def test_wrong_key_and_unknown_model() -> None:
    with FakeServer(api_key="right", models=("a", "b")) as server:
        settings: dict[str, Any] = {"base_url": server.base_url, "progress": False}
        with quackllm.connect(model="a", api_key="wrong-key-1", **settings) as con:
            with pytest.raises(AuthenticationFailed, match="llm_api_key") as found:
                con.execute("SELECT LLM('x', v) FROM (VALUES ('a'), ('b')) t(v)")
            assert "wrong-key-1" not in str(found.value)
        with (
            quackllm.connect(model="c", api_key="right", **settings) as con,
            pytest.raises(ModelNotFound, match="it serves: 'a', 'b'"),
        ):
            con.execute("SELECT LLM('x', 'y')")
        assert server.calls <= 1


def test_unreachable_server() -> None:
    with (
        quackllm.connect(
            base_url="http://127.0.0.1:9/v1", model="m", max_retries=0, progress=False
        ) as con,
        pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:9/v1.*llm_base_url"),
    ):
        con.execute("SELECT LLM('x', 'y')")


def test_a_context_longer_than_the_window_fails_its_row_alone() -> None:
    with (
        FakeServer(context_window=300, answer=lambda _: "fine") as server,
        quackllm.connect(base_url=server.base_url, model="fake-model", progress=False) as con,
    ):
        rows = con.execute(
            "SELECT n, LLM('x', repeat('word ', n)) FROM (VALUES (1), (5000), (3)) v(n) ORDER BY n"
        ).fetchall()
        assert rows == [(1, "fine"), (3, "fine"), (5000, None)]
        [(cause, message)] = con.execute("SELECT cause, message FROM llm_errors()").fetchall()
        assert cause == "context window exceeded"
        assert "300" in message


# Values


def echo(request: Request) -> str:
    return request.answer.labels[0] if isinstance(request.answer, Choice) else request.fields


@pytest.fixture
def echoing() -> Iterator[Connection]:
    with quackllm.connect(provider=FakeProvider(answer=echo), progress=False) as connection:
        yield connection


VALUES = [
    "plain",
    "",
    " ",
    "it's \"quoted\" and 'single'",
    '{"a": [1, {"b": null}]}',
    "line\nbreak\ttab\r\x0b\\ back",
    "nul \x00 inside",
    "unit \x1f separator",
    "😀 👩‍👩‍👧 é e\u0301",
    "مرحبا \u202e עברית",
    "\ue000\U0010fffd",
    "'); DROP TABLE t; --",
    "null",
    "$1 ? $name {name} {{name}} %s",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("where", ["column", "parameter", "literal", "scalar function"])
def test_any_text_reaches_the_model_unchanged(echoing: Connection, where: str) -> None:
    echoing.execute("CREATE TABLE t (v VARCHAR)")
    for value in VALUES:
        echoing.execute("DELETE FROM t")
        echoing.execute("INSERT INTO t VALUES (?)", [value])
        literal = value.replace("'", "''")
        if where == "literal" and "\x00" in value:
            continue  # DuckDB refuses NUL bytes in the text of a statement
        sql, given = {
            "column": ("SELECT LLM('x', v) FROM t", None),
            "parameter": ("SELECT LLM('x', {'v': $it})", {"it": value}),
            "literal": (f"SELECT LLM('x', {{'v': '{literal}'}})", None),
            "scalar function": ("SELECT list_transform([v], v -> LLM('x', v))[1] FROM t", None),
        }[where]
        [(answer,)] = echoing.execute(sql, given).fetchall()
        assert json.loads(answer) == {"v": value}, value[:40]


def test_values_of_every_type_are_rendered(echoing: Connection) -> None:
    [(answer,)] = echoing.execute(
        """SELECT LLM('x', {'huge': 170141183460469231731687303715884105727::HUGEINT,
            'decimal': 1.50::DECIMAL(9, 2), 'day': DATE '2020-01-01', 'span': INTERVAL 1 DAY,
            'list': [1, NULL], 'struct': {'a': 1}, 'map': MAP {'k': 1}, 'yes': true,
            'bytes': '\\xFF\\x00'::BLOB, 'bits': '101'::BIT, 'time': TIME '10:00',
            'json': '{"j": 1}'::JSON, 'none': NULL, 'tag': 'a'::ENUM('a', 'b')})"""
    ).fetchall()
    assert json.loads(answer) == {
        "huge": 170141183460469231731687303715884105727,
        "decimal": 1.5,
        "day": "2020-01-01",
        "span": "1 day",
        "list": [1, None],
        "struct": {"a": 1},
        "map": {"k": 1},
        "yes": True,
        "bytes": "\\xFF\\x00",
        "bits": "101",
        "time": "10:00:00",
        "json": {"j": 1},
        "none": None,
        "tag": "a",
    }


def test_odd_column_names(echoing: Connection) -> None:
    names = ["select", "a b", 'q"uote', "😀", "a.b", "LLM", "Case", "x'y", "{brace}", "from"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    echoing.execute(f'CREATE TABLE "odd t" ({", ".join(name + " VARCHAR" for name in quoted)})')
    echoing.execute(f'INSERT INTO "odd t" VALUES ({", ".join("?" for _ in names)})', names)
    expected = {name: name for name in names}
    for arguments in ("t.*", "*", ", ".join(quoted), ", ".join(f"t.{name}" for name in quoted)):
        [(answer,)] = echoing.execute(f"SELECT LLM('x', {arguments}) FROM \"odd t\" t").fetchall()
        assert json.loads(answer) == expected, arguments
    [(answer,)] = echoing.execute(
        'SELECT LLM(\'{select} {a b} {q"uote} {😀} {a.b}\', *) FROM "odd t"'
    ).fetchall()
    assert json.loads(answer) == expected


def test_columns_of_the_same_name_from_two_tables(echoing: Connection) -> None:
    echoing.execute("CREATE TABLE t AS SELECT 1 AS i, 'a' AS v")
    [(answer,)] = echoing.execute(
        "SELECT LLM('x', l.*, r.*) FROM t l JOIN (SELECT i, upper(v) AS v FROM t) r USING (i)"
    ).fetchall()
    assert json.loads(answer) == {"l.i": 1, "l.v": "a", "r.i": 1, "r.v": "A"}
    [(answer,)] = echoing.execute(
        "SELECT LLM('x', l.v, r.v) FROM t l JOIN t r USING (i)"
    ).fetchall()
    assert json.loads(answer) == {"l.v": "a", "r.v": "a"}


def test_rows_without_a_value_are_null_and_not_asked(con: Connection, fake: FakeProvider) -> None:
    con.execute("CREATE TABLE n (a VARCHAR, b INTEGER)")
    sql = "SELECT LLM('x', a, b), LLM_FILTER('x', n.*), LLM_EXTRACT(a, {'k': 'INTEGER[]'}) FROM n"
    assert con.execute(sql).fetchall() == []
    types = [str(column[1]) for column in con.description]
    con.execute("INSERT INTO n VALUES (NULL, NULL), (NULL, NULL)")
    assert con.execute(sql).fetchall() == [(None, None, None)] * 2
    assert [str(column[1]) for column in con.description] == types
    assert (
        con.execute("SELECT list_transform([a], x -> LLM('x', x)) FROM n").fetchall()
        == [([None],)] * 2
    )
    assert con.execute("SELECT count(*) FROM n WHERE LLM_FILTER('x', a)").fetchall() == [(0,)]
    assert fake.calls == 0
    con.execute("SELECT LLM('x', a, b) FROM (SELECT NULL AS a, 1 AS b)").fetchall()
    assert json.loads(fake.requests[-1].fields) == {"a": None, "b": 1}


# Statements that are large


@pytest.mark.parametrize("depth", [20, 60, 300])
def test_functions_in_functions_reach_the_model(echoing: Connection, depth: int) -> None:
    deep = "upper(" * depth + "v" + ")" * depth
    [(answer,)] = echoing.execute(f"SELECT LLM('x', {deep}) FROM (SELECT 'a' AS v)").fetchall()
    assert list(json.loads(answer).values()) == ["A"]


def test_calls_in_calls_are_all_made(con: Connection, fake: FakeProvider) -> None:
    deep = "LLM('x', " * 50 + "v" + ")" * 50
    [(answer,)] = con.execute(f"SELECT {deep} FROM (SELECT 'a' AS v)").fetchall()
    assert answer is not None
    assert fake.calls == 50


def test_a_struct_that_is_nested_too_deeply_is_refused_in_words(echoing: Connection) -> None:
    deep = "upper(" * 60 + "v" + ")" * 60
    with pytest.raises(BindError, match=r"nested too deeply.*a CTE"):
        echoing.execute(f"SELECT LLM('x', {{'k': {deep}}}) FROM (SELECT 'a' AS v)")


def test_a_thousand_alternatives(con: Connection, fake: FakeProvider) -> None:
    con.execute("CREATE TABLE n AS SELECT i FROM range(1005) r(i)")
    many = " OR ".join(f"i = {n}" for n in range(1000))
    sql = f"SELECT count(*) FROM n WHERE {many} OR LLM_FILTER('x', i)"
    [(count,)] = con.execute(sql).fetchall()
    assert 1000 <= count <= 1005
    assert fake.calls == 5
