"""vLLM in this process, with a real model: `make test-vllm` names it in QUACKLLM_VLLM_MODEL."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import ModelNotFound, StatementCancelled
from tests.vllm.conftest import FILMS, last

pytestmark = pytest.mark.vllm

# Small, and started without compiling: the model is loaded in seconds.
OPTIONS = {"max_model_len": 2048, "enforce_eager": True, "kv_cache_memory_bytes": 2**29}


@pytest.fixture(scope="module")
def model() -> str:
    """The directory of the model."""
    directory = os.environ.get("QUACKLLM_VLLM_MODEL")
    if not directory:
        pytest.skip("no model for vLLM in this process: make test-vllm names one")
    return directory


@pytest.fixture(scope="module")
def con(model: str) -> Iterator[Connection]:
    """A connection with the model in it, and forty films of two synopses."""
    with quackllm.connect(
        model=model, vllm_options=OPTIONS, calibrate=False, progress=False, cache=False
    ) as connection:
        connection.execute(FILMS)
        yield connection


def test_it_is_known_after_the_first_call(con: Connection, model: str) -> None:
    con.execute("SELECT LLM_FILTER('Is it a film?', title) FROM films LIMIT 1").fetchall()
    shown = con.execute(
        "SELECT model, endpoint, context_window, prefix_granularity, token_counts, "
        "cache_tokens > 2048 FROM llm_models()"
    ).fetchall()
    assert shown == [(model, "vllm", 2048, 32, "exact", True)]


@pytest.mark.parametrize(
    ("call", "check"),
    [
        ("LLM_FILTER('Is it about ducks?', synopsis)", "x IN (true, false)"),
        ("LLM_CLASSIFY(synopsis, ['größer', '日本', 'ü'])", "x IN ('größer', '日本', 'ü')"),
        ("LLM_CLASSIFY(synopsis, ['a', 'a long one', 'a long two'])", "x LIKE 'a%'"),
        ("LLM_SCORE('How sad is it?', synopsis)", "x BETWEEN 0 AND 1"),
        ("LLM_EXTRACT(synopsis, {'place': 'VARCHAR', 'year': 'INTEGER'})", "true"),
        ("LLM('How many ducks?', synopsis, return_type := 'INTEGER')", "typeof(x) = 'INTEGER'"),
        ("LLM('Say it shorter', title, max_tokens := 16)", "length(x) > 0"),
    ],
)
def test_answers_have_the_type_or_are_null_with_a_record(
    con: Connection, call: str, check: str
) -> None:
    recorded = "SELECT count(*) FROM llm_errors()"
    [(before,)] = con.execute(recorded).fetchall()
    con.execute(f"CREATE OR REPLACE TABLE answers AS SELECT {call} AS x FROM films WHERE id < 8")
    [(rows, nulls, wrong)] = con.execute(
        f"SELECT count(*), count(*) FILTER (x IS NULL), "
        f"count(*) FILTER (x IS NOT NULL AND NOT ({check})) FROM answers"
    ).fetchall()
    [(after,)] = con.execute(recorded).fetchall()
    assert (rows, wrong) == (8, 0)
    assert nulls <= 4, "held to their form, most answers fit"
    assert (nulls > 0) == (after > before)


def test_shared_beginnings_are_not_computed_again(con: Connection) -> None:
    con.execute("SELECT LLM_FILTER('Would a child like it?', title, synopsis) FROM films")
    cost = last(con)
    assert (cost["calls"], cost["failures"]) == (40, 0)
    assert cost["cached_tokens"] > 0.4 * cost["prompt_tokens"]


def test_calibrated_labels_take_one_token(con: Connection) -> None:
    con.execute("SET llm_calibrate = true")
    try:
        rows = con.execute("SELECT LLM_CLASSIFY(synopsis, ['happy', 'sad']) FROM films").fetchall()
        cost = last(con)
    finally:
        con.execute("SET llm_calibrate = false")
    assert {label for (label,) in rows} <= {"happy", "sad"}
    assert cost["completion_tokens"] <= cost["calls"] + 1, "one more for no row at all"
    assert len([t for t in threading.enumerate() if "quackllm-engine" in t.name]) == 1


def test_a_row_longer_than_the_window_is_null_and_the_others_are_answered(con: Connection) -> None:
    rows = con.execute(
        "SELECT n, LLM_FILTER('Is it sad?', repeat('word ', n)) IS NULL "
        "FROM (VALUES (3), (20000)) v(n) ORDER BY n"
    ).fetchall()
    assert rows == [(3, False), (20000, True)]
    [(cause,)] = con.execute(
        "SELECT cause FROM llm_errors() ORDER BY statement DESC LIMIT 1"
    ).fetchall()
    assert cause == "context window exceeded"


def test_interrupting_takes_the_prompts_back(con: Connection) -> None:
    timer = threading.Timer(1.0, con.interrupt)
    timer.start()
    started = time.monotonic()
    with pytest.raises(StatementCancelled):
        con.execute("SELECT LLM('Tell a very long story', range, max_tokens := 900) FROM range(64)")
    assert con.execute("SELECT LLM_FILTER('Is it a number?', 7)").fetchall()
    assert time.monotonic() - started < 20, "the stories are not told to their end"


def test_an_answer_is_the_same_as_from_a_server(con: Connection) -> None:
    url = os.environ.get("QUACKLLM_VLLM_URL")
    if not url:
        pytest.skip("no server beside")
    statement = "SELECT id, LLM_CLASSIFY(synopsis, ['sad', 'happy', 'odd']) FROM films ORDER BY id"
    here = con.execute(statement).fetchall()
    with quackllm.connect(base_url=url, calibrate=False, progress=False, cache=False) as other:
        other.execute(FILMS)
        there = other.execute(statement).fetchall()
        cost: dict[str, Any] = last(other)
    assert cost["prompt_tokens"] == last(con)["prompt_tokens"], "prompts are the same to the token"
    # Batches of another size round differently: near ties may turn.
    assert sum(one == two for one, two in zip(here, there, strict=True)) >= 38


@pytest.mark.usefixtures("model")
def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    with (
        quackllm.connect(model=str(tmp_path), progress=False) as con,
        pytest.raises(ModelNotFound, match=r"vLLM cannot load .*no-such-type"),
    ):
        con.execute("SELECT LLM('x', 'y')")


def test_closing_ends_the_thread_and_another_connection_loads_it_again(model: str) -> None:
    before = threading.active_count()
    with quackllm.connect(model=model, vllm_options=OPTIONS, progress=False, cache=False) as con:
        assert con.execute("SELECT LLM('Say yes', 1, max_tokens := 4) IS NOT NULL").fetchall()
    assert threading.active_count() <= before
