"""The promises on a real vLLM server: types held, prefixes reused, failures recorded."""

from __future__ import annotations

import threading
import time

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import ModelNotFound, StatementCancelled
from tests.vllm.conftest import last

pytestmark = pytest.mark.vllm


def test_the_server_is_known_after_the_first_call(con: Connection) -> None:
    con.execute("SELECT LLM_FILTER('Is it a film?', title) FROM films LIMIT 1").fetchall()
    shown = con.execute(
        "SELECT model, context_window, prefix_granularity, cache_tokens > 0 FROM llm_models()"
    ).fetchall()
    [(model, window, block, has_cache)] = shown
    assert model
    assert window >= 2048
    assert block in (16, 32, 64)
    assert has_cache


@pytest.mark.parametrize(
    ("call", "type_", "check"),
    [
        ("LLM_FILTER('Is it about ducks?', synopsis)", "BOOLEAN", "x IN (true, false)"),
        ("LLM_CLASSIFY(synopsis, ['ducks', 'trains'])", "VARCHAR", "x IN ('ducks', 'trains')"),
        (
            "LLM_CLASSIFY(synopsis, ['größer', '日本', 'ü'])",
            "VARCHAR",
            "x IN ('größer','日本','ü')",
        ),
        ("LLM_CLASSIFY(synopsis, ['a', 'a long one', 'a long two'])", "VARCHAR", "x LIKE 'a%'"),
        (
            f"LLM_CLASSIFY(synopsis, ['one{' more' * 40}', 'two{' more' * 40}'])",
            "VARCHAR",
            "length(x) = 203",
        ),
        ("LLM_SCORE('How sad is it?', synopsis)", "DOUBLE", "x BETWEEN 0 AND 1"),
        ("LLM_EXTRACT(synopsis, {'place': 'VARCHAR', 'year': 'INTEGER'})", "STRUCT", "true"),
        ("LLM('How many ducks?', synopsis, return_type := 'INTEGER')", "INTEGER", "true"),
        ("LLM('Say it shorter', title, max_tokens := 16)", "VARCHAR", "length(x) > 0"),
    ],
)
def test_answers_have_the_type_or_are_null_with_a_record(
    con: Connection, call: str, type_: str, check: str
) -> None:
    con.execute(f"CREATE TABLE answers AS SELECT id, {call} AS x FROM films WHERE id < 8")
    [(found, rows, nulls, wrong)] = con.execute(
        f"SELECT any_value(typeof(x)), count(*), count(*) FILTER (x IS NULL), "
        f"count(*) FILTER (x IS NOT NULL AND NOT ({check})) FROM answers"
    ).fetchall()
    assert found.startswith(type_)
    assert rows == 8
    assert wrong == 0
    [(recorded,)] = con.execute("SELECT count(*) FROM llm_errors()").fetchall()
    assert (nulls > 0) == (recorded > 0)


def test_the_server_reuses_what_the_order_predicts(con: Connection) -> None:
    con.execute("SELECT LLM_FILTER('Would a child like it?', title, synopsis) FROM films")
    plan = con.execute(
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT LLM_FILTER('Would a sailor like it?', title, "
        "synopsis) FROM films"
    ).fetchall()[0][-1]
    cost = last(con)
    assert cost["calls"] == 40, plan
    assert cost["failures"] == 0
    # Two synopses of about 75 tokens: all but a few prompts share theirs with another.
    assert cost["cached_tokens"] > 0.4 * cost["prompt_tokens"], plan


def test_a_row_longer_than_the_window_is_null_and_the_others_are_answered(con: Connection) -> None:
    con.execute("INSERT INTO films SELECT 99, 'Long', repeat('word ', 20000)")
    rows = con.execute(
        "SELECT id, LLM_FILTER('Is it sad?', synopsis) FROM films WHERE id IN (1, 99) ORDER BY id"
    ).fetchall()
    assert rows[0][1] in (True, False)
    assert rows[1][1] is None
    [(cause,)] = con.execute("SELECT cause FROM llm_errors()").fetchall()
    assert cause == "context window exceeded"


def test_a_model_that_is_not_served_stops_the_statement(vllm_url: str) -> None:
    con = quackllm.connect(base_url=vllm_url, model="no-such-model", progress=False)
    with pytest.raises(ModelNotFound, match="no-such-model"):
        con.execute("SELECT LLM('x', range) FROM range(3)").fetchall()
    con.close()


def test_the_same_question_has_the_same_answer_whatever_the_order(con: Connection) -> None:
    statement = "SELECT id, LLM_CLASSIFY(synopsis, ['sad', 'happy', 'odd']) FROM films ORDER BY id"
    ordered = con.execute(statement).fetchall()
    con.execute("SET llm_cache = false")
    con.execute("SET llm_reorder = false")
    plain = con.execute(statement).fetchall()
    agreed = sum(a == b for a, b in zip(ordered, plain, strict=True))
    # Batches of another size round differently: near ties may turn.
    assert agreed >= 38


def test_interrupting_frees_the_server(con: Connection) -> None:
    timer = threading.Timer(1.0, con.interrupt)
    timer.start()
    started = time.monotonic()
    with pytest.raises(StatementCancelled):
        con.execute("SELECT LLM('Tell a very long story', range, max_tokens := 900) FROM range(64)")
    assert time.monotonic() - started < 5
    con.execute("SET llm_call_timeout = 60")
    assert con.execute("SELECT LLM_FILTER('Is it a number?', 7)").fetchall()
