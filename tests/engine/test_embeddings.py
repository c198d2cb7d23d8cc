"""LLM_EMBED and LLM_SIMILARITY: one vector per distinct text, never a wrong one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest

import quackllm
from quackllm.engine.embedding import as_json
from quackllm.errors import BindError, ModelNotFound
from quackllm.testing import FakeProvider, FakeServer, HttpFault
from quackllm.testing.fake_provider import DIMENSIONS
from quackllm.udfs.vectors import packed
from tests.engine.conftest import open_pair

STATEMENTS = [
    "SELECT id, LLM_EMBED(body) FROM reviews",
    "SELECT LLM_EMBED(NULL), LLM_EMBED(''), LLM_EMBED(42), LLM_EMBED([1, 2])",
    "SELECT id FROM reviews WHERE LLM_SIMILARITY(body, 'Review text 3') > 0.2",
    "SELECT m.id, r.id FROM movies m JOIN reviews r ON LLM_SIMILARITY(synopsis, body) > 0.4",
    "SELECT m.id FROM movies m SEMI JOIN reviews r ON LLM_SIMILARITY(synopsis, body) > 0.4",
    "SELECT stars, max(LLM_SIMILARITY(body, 'good')) FROM reviews GROUP BY stars",
    "SELECT id FROM reviews ORDER BY LLM_SIMILARITY(body, 'good') DESC NULLS LAST, id LIMIT 5",
    "SELECT list_transform([body], x -> LLM_EMBED(x)[1]) FROM reviews",
    "SELECT LLM_EMBED({'a': title, 'b': year}) FROM movies",
    "SELECT CASE WHEN LLM_FILTER('q', body) THEN LLM_EMBED(body, dimensions := 3)[1] END"
    " FROM reviews",
    "SELECT DISTINCT LLM_EMBED(LLM_SUMMARIZE(body)) FROM reviews",
    "SELECT LLM_EMBED(genre) FROM movies UNION ALL SELECT LLM_EMBED(body) FROM reviews",
]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(models=["m"]) as running:
        yield running


def connect(server: FakeServer, **settings: Any) -> quackllm.Connection:
    given = {"base_url": server.base_url, "embedding_model": "m", "progress": False}
    return quackllm.connect(**{**given, "cache_path": ":memory:", **settings})


@pytest.mark.parametrize("sql", STATEMENTS)
def test_the_plan_gives_what_a_call_per_row_gives(sql: str) -> None:
    pair = open_pair()
    planned, naive = pair.run_planned(sql), pair.run_naive(sql)
    assert planned[1] == naive[1]
    assert sorted(map(repr, planned[0])) == sorted(map(repr, naive[0]))
    assert pair.planned_fake.calls <= pair.naive_fake.calls


def test_a_join_by_similarity_asks_once_per_text_of_each_side() -> None:
    pair = open_pair()
    pair.run_planned(STATEMENTS[3])
    [distinct] = pair.naive.execute(
        "SELECT count(*) FROM (SELECT synopsis FROM movies UNION SELECT body FROM reviews) t(x) "
        "WHERE x IS NOT NULL"
    ).fetchall()
    assert pair.planned_fake.calls == distinct[0]


def test_a_text_is_one_question_in_whatever_column_it_stands() -> None:
    fake = FakeProvider()
    con = quackllm.connect(provider=fake, progress=False)
    con.execute(
        "SELECT LLM_EMBED(x.a), LLM_EMBED(y.b) FROM (VALUES ('t')) x(a), (VALUES ('t')) y(b)"
    )
    assert fake.calls == 1


def test_texts_are_written_as_duckdb_writes_them() -> None:
    """Or a text with a control character would be two questions: `as_json` and to_json's."""
    texts = ['\x0b\x1f \\u001f\\ "', "é\u2028😀\x7f\t", "", None]
    sql = "SELECT coalesce(to_json(?::VARCHAR)::VARCHAR, 'null')"
    written = [duckdb.execute(sql, [text]).fetchall()[0][0] for text in texts]
    assert as_json(texts).to_pylist() == written


def test_the_type_is_known_before_a_row_is_embedded(server: FakeServer) -> None:
    con = connect(server)
    con.execute("CREATE TABLE t AS SELECT 'text ' || i AS a FROM range(9) r(i)")
    types = con.execute("DESCRIBE SELECT LLM_EMBED(a) AS e, LLM_SIMILARITY(a, a) AS s FROM t")
    assert [row[:2] for row in types.fetchall()] == [("e", "FLOAT[16]"), ("s", "DOUBLE")]
    con.execute("CREATE VIEW v AS SELECT LLM_EMBED(a) AS e FROM t")
    con.execute("EXPLAIN SELECT LLM_EMBED(a) FROM t")
    assert server.calls == 1, "the one that counts the dimensions"
    assert con.execute("SELECT count(DISTINCT e) FROM v").fetchone() == (9,)


@pytest.mark.parametrize("flavor", ["openai", "vllm", "llama.cpp", "ollama"])
def test_texts_go_in_requests_of_many(flavor: Any) -> None:
    with FakeServer(models=["m"], flavor=flavor) as server:
        con = connect(server)
        con.execute("CREATE TABLE t AS SELECT 'text ' || i % 1000 AS a FROM range(3000) r(i)")
        rows = con.execute("SELECT a, LLM_EMBED(a) FROM t").fetchall()
        sent = [json.loads(got.raw)["input"] for got in server.received if got.body.get("input")]
        assert server.calls <= 8, "a thousand texts, at most 256 in one request"
        assert sorted(text for texts in sent[1:] for text in texts) == sorted(dict(rows))
        fake = quackllm.connect(provider=FakeProvider(), progress=False)
        text = rows[17][0]
        assert fake.execute("SELECT LLM_EMBED(?)", [text]).fetchone() == (rows[17][1],)
        assert len(set(rows)) == 1000


def test_an_answer_is_kept_and_found_again(server: FakeServer, tmp_path: Any) -> None:
    path = str(tmp_path / "answers.sqlite")
    sql = "SELECT LLM_EMBED('x'), LLM_EMBED(NULL), LLM_EMBED('y', dimensions := 3)"
    with connect(server, cache_path=path) as con:
        first = con.execute(sql).fetchall()
    before = server.calls
    with connect(server, cache_path=path) as con:
        assert con.execute(sql).fetchall() == first
        assert server.calls == before + 1, "the dimensions are counted anew, no text is sent"
        assert con.execute("SELECT LLM_EMBED('x', dimensions := 4)").fetchall() != first
    assert len(first[0][0]) == DIMENSIONS
    assert first[0][1] is None
    assert len(first[0][2]) == 3


def test_a_text_that_is_too_long_fails_alone(tmp_path: Any) -> None:
    with FakeServer(models=["m"], context_window=100) as server:
        con = connect(server)
        con.execute(
            "CREATE TABLE t AS SELECT i, repeat('word ', CASE WHEN i IN (7, 40) THEN 1000 "
            "ELSE 1 END) || i AS a FROM range(64) r(i)"
        )
        missing = con.execute("SELECT i FROM (SELECT i, LLM_EMBED(a) AS e FROM t) WHERE e IS NULL")
        assert sorted(missing.fetchall()) == [(7,), (40,)]
        causes = con.execute("SELECT DISTINCT cause, count(*) FROM llm_errors() GROUP BY 1")
        assert causes.fetchall() == [("context window exceeded", 2)]


def wrong_reply(vectors: list[list[float]], **rule: Any) -> HttpFault:
    data = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return HttpFault(body=json.dumps({"data": data}), after=1, **rule)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (wrong_reply([[0.5] * 3]), "invalid answer"),
        (wrong_reply([[float("nan")] * DIMENSIONS]), "invalid answer"),
        (wrong_reply([[0.5] * DIMENSIONS] * 2), "server error"),
        (wrong_reply([]), "server error"),
        (HttpFault.wrong_shape(after=1), "server error"),
        (HttpFault.truncated_json(after=1), "server error"),
        (HttpFault.failing(500, after=1), "server error"),
    ],
)
def test_a_reply_that_is_not_right_is_null_and_recorded(fault: HttpFault, cause: str) -> None:
    with FakeServer(models=["m"], faults=[fault]) as server:
        con = connect(server, max_retries=1)
        assert con.execute("SELECT LLM_EMBED('x')").fetchall() == [(None,)]
        assert con.execute("SELECT cause FROM llm_errors()").fetchall() == [(cause,)]


def test_a_server_that_fails_at_times_costs_no_row() -> None:
    faults = [HttpFault.failing(503, rate=0.25, anew=True, after=1)]
    with FakeServer(models=["m"], faults=faults) as server:
        con = connect(server, max_retries=10)
        con.execute("CREATE TABLE t AS SELECT 'text ' || i AS a FROM range(700) r(i)")
        found = con.execute("SELECT count(LLM_EMBED(a)) FROM t").fetchone()
        assert found == (700,)


def test_an_interrupted_statement_leaves_no_request() -> None:
    with FakeServer(models=["m"], faults=[HttpFault.hanging(after=1)]) as server:
        con = connect(server)
        con.execute("CREATE TABLE t AS SELECT 'text ' || i AS a FROM range(700) r(i)")
        timer = threading.Timer(0.5, con.interrupt)
        timer.start()
        with pytest.raises(duckdb.InterruptException):
            con.execute("SELECT LLM_EMBED(a) FROM t")
        until = time.monotonic() + 1
        while server.abandoned == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert server.abandoned > 0
        assert con.execute("SELECT 1").fetchall() == [(1,)]


def test_a_model_by_name_has_its_own_server(server: FakeServer) -> None:
    with FakeServer(models=["chat"]) as chat:
        con = quackllm.connect(base_url=chat.base_url, cache_path=":memory:", progress=False)
        con.execute(f"CREATE MODEL vectors (model 'm', base_url '{server.base_url}')")
        con.execute("SET llm_embedding_model = 'vectors'")
        con.execute("SELECT LLM_EMBED('x'), LLM_FILTER('q', 'x')")
        assert (chat.calls, server.calls) == (1, 2)
        con.execute("RESET llm_embedding_model")
        con.execute("SELECT LLM_EMBED('y', model := 'vectors')")
        assert server.calls == 3


def test_a_model_without_embeddings_is_a_clear_error() -> None:
    refusing = HttpFault.failing(400, "this model does not support embeddings")
    with (
        FakeServer(models=["m"], faults=[refusing]) as server,
        pytest.raises(ModelNotFound, match=r"makes no embeddings[^~]*llm_embedding_model"),
    ):
        connect(server).execute("SELECT LLM_EMBED('x')")
    con = quackllm.connect(embedding_model="some-model", progress=False)
    with pytest.raises(ModelNotFound, match="'some-model' is a name, and no server is set"):
        con.execute("SELECT LLM_EMBED('x')")


def test_a_failed_call_may_have_a_vector_of_its_own(server: FakeServer) -> None:
    with FakeServer(models=["m"], faults=[HttpFault.failing(500, after=1)]) as broken:
        con = connect(broken, max_retries=0)
        zeros = ", ".join("0" * DIMENSIONS)
        found = con.execute(f"SELECT LLM_EMBED('x', default_value := [{zeros}])").fetchone()
        assert found == ((0.0,) * DIMENSIONS,)
        with pytest.raises(BindError, match=r"\[1, 2\] is not a FLOAT\[16\]"):
            con.execute("SELECT LLM_EMBED('x', default_value := [1, 2])")


@pytest.mark.parametrize("call", ["LLM_SIMILARITY('a')", "LLM_SIMILARITY('a', 'b', 'c')"])
def test_similarity_is_of_two_texts(call: str, server: FakeServer) -> None:
    with pytest.raises(BindError, match=r"LLM_SIMILARITY\(a, b\)"):
        connect(server).execute(f"SELECT {call}")


def test_similarity_is_the_cosine_of_the_two_embeddings(server: FakeServer) -> None:
    con = connect(server)
    a, b, said = con.execute(
        "SELECT LLM_EMBED('x'), LLM_EMBED('y'), LLM_SIMILARITY('x', 'y')"
    ).fetchall()[0]
    assert said == pytest.approx(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)


def test_budgets_count_texts(server: FakeServer) -> None:
    con = connect(server, max_calls=10, on_budget="partial")
    con.execute("CREATE TABLE t AS SELECT 'text ' || i AS a FROM range(30) r(i)")
    assert con.execute("SELECT count(LLM_EMBED(a)) FROM t").fetchone() == (10,)


def test_a_provider_that_lies_about_its_vectors_gives_none() -> None:
    lying = FakeProvider(answer=lambda request: packed([0.5, 0.5]))
    con = quackllm.connect(provider=lying, progress=False)
    assert con.execute("SELECT LLM_EMBED('x')").fetchall() == [(None,)]
