"""`llm_batch`: the provider's batch API. Same rows, paid once, whatever becomes of the process."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.cache.batches import BatchRecords
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Request
from quackllm.errors import BudgetExceeded, RequestRefused
from quackllm.testing import FakeServer

ROWS = 40
STATEMENT = f"SELECT n, LLM_FILTER('good?', 'item ' || n) FROM range({ROWS}) r(n) ORDER BY n"


def connect(server: FakeServer, **settings: Any) -> Connection:
    told: dict[str, Any] = {"cache_path": ":memory:", "progress": False, "batch": True, **settings}
    return quackllm.connect(base_url=server.base_url, **told)


def batches(server: FakeServer) -> int:
    assert server.batches is not None
    return len(server.batches.batches)


def until_sent(server: FakeServer) -> None:
    ends = time.monotonic() + 30
    while not batches(server):
        assert time.monotonic() < ends, "no batch was sent"
        time.sleep(0.02)


def test_rows_and_accounts_are_those_of_single_calls() -> None:
    accounts = "SELECT calls, prompt_tokens, completion_tokens, failures, cost FROM llm_queries()"
    rows, costs = [], []
    for batch in (False, True):
        with (
            FakeServer(batch_seconds=0.0) as server,
            connect(server, batch=batch, input_price=2, output_price=8) as con,
        ):
            rows.append(con.execute(STATEMENT).fetchall())
            costs.append(con.execute(accounts).fetchall())
            assert batches(server) == batch
    assert rows[0] == rows[1]
    assert costs[0] == costs[1]


def test_half_the_price_is_shown_and_paid() -> None:
    with (
        FakeServer(batch_seconds=0.0) as server,
        connect(server, input_price=2, output_price=8, batch_price=0.5) as con,
    ):
        explain = f"EXPLAIN (FORMAT json) {STATEMENT}"
        told = [con.execute(explain).fetchall()[0][-1]]
        con.execute("SET llm_batch = false")
        told.append(con.execute(explain).fetchall()[0][-1])
        half, whole = (json.loads(text)["total"]["at_most"]["dollars"] for text in told)
        assert half == pytest.approx(whole / 2)
        con.execute("SET llm_batch = true")
        con.execute(STATEMENT).fetchall()
        spent = "SELECT cost, prompt_tokens, completion_tokens FROM llm_queries() WHERE calls > 0"
        [(cost, prompt, completion)] = con.execute(spent).fetchall()
        assert cost == pytest.approx((2 * prompt + 8 * completion) / 2e6)


def test_rows_that_fail_are_null_and_recorded() -> None:
    def answer(request: Request) -> str:
        return "perhaps" if "item 7" in request.fields else '{"answer": "yes"}'

    with (
        FakeServer(batch_seconds=0.0, answer=answer, context_window=60) as server,
        connect(server) as con,
    ):
        rows = con.execute(
            "SELECT n, LLM_FILTER('good?', repeat('item ' || n, CASE n WHEN 3 THEN 99 ELSE 1 END)) "
            "FROM range(10) r(n) ORDER BY n"
        ).fetchall()
        causes = con.execute("SELECT cause FROM llm_errors() ORDER BY 1").fetchall()
    assert rows == [(n, None if n in (3, 7) else True) for n in range(10)]
    assert causes == [("context window exceeded",), ("invalid answer",)]


@pytest.mark.parametrize("price", [0.5, None])
def test_explain_says_that_answers_come_by_batch_and_at_what_part_of_the_price(
    price: float | None,
) -> None:
    with (
        FakeServer(batch_seconds=0.0) as server,
        connect(server, input_price=2, output_price=8, batch_price=price) as con,
    ):
        [stage] = model_stages(con, STATEMENT)
        assert (stage["by_batch"], stage["batch_price"]) == (True, price)
        text = con.execute(f"EXPLAIN {STATEMENT}").fetchall()[0][-1]
        words = "within a day" + (", at 0.5 of the price" if price else "\n")
        assert re.search(rf"by batch +the answers come {words}", text)
        con.execute("SET llm_batch = false")
        [stage] = model_stages(con, STATEMENT)
        assert "by_batch" not in stage
        assert "by batch" not in con.execute(f"EXPLAIN {STATEMENT}").fetchall()[0][-1]


def model_stages(con: Connection, sql: str) -> list[dict[str, Any]]:
    """What EXPLAIN says of each stage that asks a model."""
    text = con.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()[0][-1]
    return [stage for stage in json.loads(text)["stages"] if stage["stage"] == "model"]


def test_a_server_without_a_batch_api_is_an_error_that_says_what_to_do() -> None:
    with FakeServer() as server, connect(server) as con:
        with pytest.raises(RequestRefused, match=r"has no batch API.*RESET llm_batch"):
            con.execute(STATEMENT)
        con.execute("RESET llm_batch")
        assert len(con.execute(STATEMENT).fetchall()) == ROWS


PROGRAM = """
import sys, quackllm
_, url, database, statement = sys.argv
with quackllm.connect(base_url=url, cache_path=database, batch=True, progress=False) as con:
    con.execute(statement).fetchall()
"""


def changed(database: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "answers.db"


def kill_while_it_waits(server: FakeServer, database: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, server.base_url, str(database), STATEMENT]
    with subprocess.Popen(command) as process:
        until_sent(server)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)


def test_after_kill_9_the_batch_is_collected_and_not_paid_again(database: Path) -> None:
    with FakeServer(batch_seconds=2.0) as server:
        kill_while_it_waits(server, database)
        with connect(server, cache_path=str(database)) as con:
            rows = con.execute(STATEMENT).fetchall()
        assert (batches(server), server.calls) == (1, ROWS)
        with connect(server, batch=False) as con:
            assert con.execute(STATEMENT).fetchall() == rows
    assert changed(database, "SELECT * FROM provider_batches") == []


def test_a_batch_whose_id_was_not_written_down_is_found_by_its_tag(database: Path) -> None:
    with FakeServer(batch_seconds=2.0) as server:
        kill_while_it_waits(server, database)
        changed(database, "UPDATE provider_batches SET batch = NULL")
        with connect(server, cache_path=str(database)) as con:
            assert len(con.execute(STATEMENT).fetchall()) == ROWS
        assert (batches(server), server.calls) == (1, ROWS)


def test_what_is_not_in_the_batch_of_before_is_sent_in_one_of_its_own(database: Path) -> None:
    more = STATEMENT.replace(f"range({ROWS})", f"range({ROWS + 5})")
    with FakeServer(batch_seconds=1.0) as server:
        kill_while_it_waits(server, database)
        with connect(server, cache_path=str(database)) as con:
            assert len(con.execute(more).fetchall()) == ROWS + 5
        assert (batches(server), server.calls) == (2, ROWS + 5)


def interrupt_when_sent(server: FakeServer, con: Connection) -> None:
    until_sent(server)
    con.interrupt()


def test_an_interrupt_cancels_the_batch_and_keeps_what_it_had_answered(database: Path) -> None:
    with FakeServer(batch_seconds=60.0) as server:
        assert server.batches is not None
        with connect(server, cache_path=str(database)) as con:
            waiting = threading.Thread(target=interrupt_when_sent, args=(server, con))
            waiting.start()
            with pytest.raises(duckdb.InterruptException):
                con.execute(STATEMENT)
            waiting.join()
            assert server.batches.cancelled == 1
            server.batches.seconds = 0.0
            assert len(con.execute(STATEMENT).fetchall()) == ROWS
        assert server.calls == ROWS + ROWS / 2


def test_a_limit_of_time_leaves_the_batch_to_be_collected(database: Path) -> None:
    with FakeServer(batch_seconds=3.0) as server:
        with connect(server, cache_path=str(database), timeout=1.5) as con:
            with pytest.raises(BudgetExceeded, match="llm_timeout"):
                con.execute(STATEMENT)
            con.execute("RESET llm_timeout")
            assert len(con.execute(STATEMENT).fetchall()) == ROWS
        assert (batches(server), server.calls) == (1, ROWS)


@pytest.mark.parametrize(("limit", "value"), [("max_calls", 15), ("max_tokens", 1500)])
def test_a_budget_is_held_by_batches(limit: str, value: int) -> None:
    with (
        FakeServer(batch_seconds=0.0) as server,
        connect(server, on_budget="partial", **{limit: value}) as con,
    ):
        rows = con.execute(STATEMENT).fetchall()
        [(calls, tokens)] = con.execute(
            "SELECT calls, prompt_tokens + completion_tokens FROM llm_queries() WHERE calls > 0"
        ).fetchall()
    answered = sum(answer is not None for _, answer in rows)
    assert 0 < answered == calls == server.calls < ROWS
    assert {"max_calls": calls, "max_tokens": tokens - tokens // calls}[limit] <= value


def test_a_big_round_is_cut_into_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quackllm.engine.provider_batch.MOST_LINES", 15)
    with FakeServer(batch_seconds=0.0) as server, connect(server) as con:
        assert len(con.execute(STATEMENT).fetchall()) == ROWS
        assert (batches(server), server.calls) == (3, ROWS)


def test_embeddings_go_the_ordinary_way() -> None:
    with (
        FakeServer(batch_seconds=0.0) as server,
        connect(server, embedding_model="fake-model") as con,
    ):
        con.execute("SELECT LLM_EMBED('x')").fetchall()
        assert batches(server) == 0


def test_records_outlive_their_maker_and_shrink_with_what_is_collected(tmp_path: Path) -> None:
    keys = [bytes([n]) * 16 for n in range(3)]
    BatchRecords(tmp_path / "a.db").begin("tag", b"question", keys)
    records = BatchRecords(tmp_path / "a.db")
    records.name("tag", "batch_1")
    records.leave("tag", frozenset(keys[1:]))
    [found] = records.find(b"question")
    assert (found.id, found.keys) == ("batch_1", frozenset(keys[1:]))
    assert records.find(b"another") == []
    records.leave("tag", frozenset())
    assert records.find(b"question") == []
