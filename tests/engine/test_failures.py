"""Promise 3: a failure is NULL with its cause, or stops the statement; nothing is paid twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.history import StageStats, failure_of
from quackllm.errors import (
    AuthenticationFailed,
    BindError,
    CallError,
    CallTimedOut,
    ContextWindowExceeded,
    InvalidAnswer,
    ProviderError,
    ServerFailed,
    TooManyFailures,
)
from quackllm.testing import FakeProvider, FakeServer, Fault

ROWS = "(SELECT 'row ' || i AS v FROM range(20) r(i))"


@contextmanager
def opened(*faults: Fault, **settings: Any) -> Iterator[tuple[Connection, FakeProvider]]:
    fake = FakeProvider(faults=faults)
    with quackllm.connect(provider=fake, progress=False, **settings) as connection:
        yield connection, fake


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (InvalidAnswer, "invalid answer"),
        (ContextWindowExceeded, "context window exceeded"),
        (CallTimedOut, "timeout"),
        (ServerFailed, "server error"),
    ],
)
@pytest.mark.parametrize(
    "call",
    ["LLM_FILTER('x', v)", "LLM_SCORE('x', v)", "LLM_CLASSIFY(v, ['a', 'b'])",
     "LLM_EXTRACT(v, {'k': 'INTEGER'})", "list_transform([v], v -> LLM_FILTER('x', v))[1]"],
)  # fmt: skip
def test_a_failed_call_is_null_with_its_cause(
    error: type[CallError], cause: str, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        opened(Fault(error=error, containing="row 3")) as (con, _),
        caplog.at_level(logging.WARNING, "quackllm"),
    ):
        rows = dict(con.execute(f"SELECT v, {call} FROM {ROWS}").fetchall())
        assert [v for v, answer in rows.items() if answer is None] == ["row 3"]
        failures = con.execute("SELECT cause, preview, function FROM llm_errors()").fetchall()
        assert [(c, preview) for c, preview, _ in failures] == [(cause, '{"v":"row 3"}')]
        assert failures[0][2] in call.lower()
        # What cannot be read is shown to the model, which is asked once more.
        calls = 21 if error is InvalidAnswer else 20
        assert con.execute("SELECT sum(failures), sum(calls) FROM llm_queries()").fetchall() == [
            (1, calls)
        ]
    assert f"1 of {calls} calls failed and are NULL (1 {cause})" in caplog.text


def test_null_of_a_failed_filter_keeps_three_valued_logic() -> None:
    with opened(Fault(error=ServerFailed)) as (con, _):
        for predicate in ("LLM_FILTER('x', v)", "NOT LLM_FILTER('x', v)"):
            assert con.execute(f"SELECT v FROM {ROWS} WHERE {predicate}").fetchall() == []
        assert con.execute(
            f"SELECT count(*) FROM {ROWS} WHERE LLM_FILTER('x', v) IS NULL"
        ).fetchall() == [(20,)]


STATEMENTS = [
    "SELECT LLM('x', v{}) FROM " + ROWS,
    "CREATE TABLE c AS SELECT LLM('x', v{}) FROM " + ROWS,
    "SELECT list_transform([v], v -> LLM('x', v{})) FROM " + ROWS,
]


@pytest.mark.parametrize("per_call", [True, False])
@pytest.mark.parametrize("sql", STATEMENTS)
def test_on_error_stops_with_the_first_cause_and_keeps_what_was_answered(
    per_call: bool, sql: str
) -> None:
    fault = Fault(error=ServerFailed, containing="row 15", times=1)
    with opened(fault, concurrency=1, reorder=False) as (con, fake):
        if not per_call:
            con.execute("SET llm_on_error = 'error'")
        statement = sql.format(", on_error := 'error'" if per_call else "")
        with pytest.raises(ServerFailed, match="injected"):
            con.execute(statement)
        before = fake.calls
        assert 1 <= before <= 20
        assert con.execute("SELECT error FROM llm_queries()").fetchall() == [
            ("ServerFailed: injected by quackllm.testing: ServerFailed",)
        ]
        con.execute(statement)
        assert fake.calls == 21, "only the failed call and what was not reached is asked again"


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_fault_that_every_call_shares_stops_at_once(sql: str) -> None:
    with opened(Fault(error=AuthenticationFailed), concurrency=2) as (con, fake):
        with pytest.raises(AuthenticationFailed, match="injected"):
            con.execute(sql.format(""))
        assert fake.calls <= 2
        assert con.execute("SELECT count(*) FROM llm_errors()").fetchall() == [(0,)]
        assert con.execute("SELECT 1").fetchall() == [(1,)]
        with pytest.raises(ProviderError):
            con.sql(f"SELECT LLM('x', v) FROM {ROWS}").fetchall()


def test_failures_are_not_remembered_and_answers_are() -> None:
    with opened(Fault(error=ServerFailed, containing="row 1", times=3)) as (con, fake):
        sql = f"SELECT count(LLM('x', v)) FROM {ROWS}"
        assert con.execute(sql).fetchall() == [(17,)]
        assert con.execute(sql).fetchall() == [(20,)]
        assert fake.calls == 23
        assert con.execute(sql).fetchall() == [(20,)]
        assert con.cursor().execute(sql).fetchall() == [(20,)]
        assert fake.calls == 23
        assert con.execute("SELECT answered_from_cache FROM llm_queries()").fetchall() == [
            (0,), (17,), (20,), (20,),
        ]  # fmt: skip


def test_the_cache_can_be_left_out() -> None:
    with opened() as (con, fake):
        for _ in range(2):
            con.execute(f"SELECT LLM('x', v, cache := false) FROM {ROWS}").fetchall()
        assert fake.calls == 40
        con.execute("SET llm_cache = false")
        for _ in range(2):
            con.execute(f"SELECT LLM('y', v) FROM {ROWS}").fetchall()
        assert fake.calls == 80
        con.execute(f"SELECT LLM('y', v, cache := true) FROM {ROWS}").fetchall()
        assert fake.calls == 100, "nothing was kept while the cache was off"


def test_a_statement_that_failed_leaves_nothing_behind() -> None:
    with opened(Fault(error=AuthenticationFailed, containing="row 5")) as (con, _):
        for sql in STATEMENTS:
            with pytest.raises(AuthenticationFailed):
                con.execute(sql.format(""))
        assert con.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE starts_with(table_name, '__llm')"
        ).fetchall() == [(0,)]
        assert con.execute(
            "SELECT count(*) FROM duckdb_views() WHERE starts_with(view_name, '__llm')"
        ).fetchall() == [(0,)]


DEFAULTS = [
    ("LLM_FILTER('x', v, default_value := false)", False),
    ("LLM_SCORE('x', v, default_value := -1)", -1.0),
    ("LLM_CLASSIFY(v, ['a', 'b'], default_value := 'unknown')", "unknown"),
    ("LLM('x', v, default_value := 'it''s')", "it's"),
    ("LLM('x', v, return_type := 'INTEGER[]', default_value := [1, 2])", [1, 2]),
    ("LLM_EXTRACT(v, {'k': 'INTEGER'}, default_value := {'k': 7})", {"k": 7}),
    ("list_transform([v], v -> LLM_SCORE('x', v, default_value := 3))[1]", 3.0),
]


@pytest.mark.parametrize(("call", "value"), DEFAULTS, ids=[call for call, _ in DEFAULTS])
def test_a_failed_call_has_the_default_that_it_names_and_is_recorded(call: str, value: Any) -> None:
    with opened(Fault(error=ServerFailed, containing="row 3")) as (con, _):
        rows = dict(con.execute(f"SELECT v, {call} FROM {ROWS}").fetchall())
        assert rows["row 3"] == value
        assert sum(answer == value for answer in rows.values()) < 20
        assert con.execute("SELECT cause, preview FROM llm_errors()").fetchall() == [
            ("server error", '{"v":"row 3"}')
        ]


def test_a_default_is_for_failures_alone() -> None:
    with opened(Fault(error=ServerFailed, containing="row 3")) as (con, _):
        sql = "SELECT LLM_SCORE('x', v, default_value := -1) FROM (VALUES ('row 3'), (NULL)) r(v)"
        assert con.execute(sql).fetchall() == [(-1.0,), (None,)]
        con.execute("SET llm_max_calls = 0")
        con.execute("SET llm_on_budget = 'partial'")
        assert con.execute(sql).fetchall() == [(None,), (None,)], "left out is not failed"


def test_equal_calls_share_a_failure_and_not_their_policy() -> None:
    with opened(Fault(error=ServerFailed, containing="row 3")) as (con, fake):
        score = "LLM_SCORE('x', v)"
        other = "LLM_SCORE('x', v, default_value := 0.5)"
        strict = "LLM_SCORE('x', v, on_error := 'error')"
        sql = f"SELECT {score}, {other} FROM {ROWS} WHERE v = 'row 3'"
        assert con.execute(sql).fetchall() == [(None, 0.5)]
        assert fake.calls == 1
        with pytest.raises(ServerFailed):
            con.execute(f"SELECT {score}, {strict} FROM {ROWS}")
        con.execute("SET llm_on_error = 'error'")
        assert len(con.execute(f"SELECT {other} FROM {ROWS}").fetchall()) == 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("LLM_SCORE('x', v, default_value := 'much')", "'much' is not a DOUBLE"),
        ("LLM_FILTER('x', v, default_value := 3)", "the function returns BOOLEAN"),
        ("LLM_FILTER('x', v, default_value := true, on_error := 'error')", "contradict"),
        ("LLM_EXTRACT(v, {'k': 'INTEGER'}, default_value := {'k': 'x'})", "default_value.k"),
    ],
)
def test_a_default_of_another_type_is_refused_before_any_call(call: str, message: str) -> None:
    with opened() as (con, fake):
        with pytest.raises(BindError, match=message):
            con.execute(f"SELECT {call} FROM {ROWS}")
        assert fake.calls == 0


MANY = "(SELECT 'row ' || i AS v FROM range(1000) r(i))"


@pytest.mark.parametrize(
    "sql",
    [f"SELECT LLM_SCORE('x', v) FROM {MANY}",
     f"SELECT list_transform([v], v -> LLM_SCORE('x', v)) FROM {MANY}"],
)  # fmt: skip
def test_a_statement_whose_calls_nearly_all_fail_is_stopped(sql: str) -> None:
    with opened(Fault(error=InvalidAnswer), concurrency=4) as (con, fake):
        with pytest.raises(TooManyFailures) as raised:
            con.execute(sql)
        assert "100 of the last 100 calls of LLM_SCORE failed" in str(raised.value)
        assert "100 invalid answer. The last one:" in str(raised.value)
        assert 200 <= fake.calls <= 208, "each was asked twice"
        con.execute("SET llm_max_error_ratio = 1")
        con.execute(sql)
        assert fake.calls >= 1100


def test_a_server_that_breaks_late_is_noticed_too() -> None:
    fault = Fault(error=ServerFailed, after=1500)
    with opened(fault, concurrency=4, max_error_ratio=0.5) as (con, fake):
        con.execute("CREATE TABLE many AS SELECT 'row ' || i AS v FROM range(5000) r(i)")
        with pytest.raises(TooManyFailures, match="501 of the last 1,000"):
            con.execute("SELECT LLM_SCORE('x', v) FROM many")
        assert fake.calls <= 2005


def test_fewer_failures_than_the_ratio_stop_nothing() -> None:
    with opened(Fault(error=ServerFailed, rate=0.5), max_error_ratio=0.7) as (con, _):
        con.execute(f"SELECT LLM_SCORE('x', v) FROM {MANY}")
        assert con.execute("SELECT failures > 300 FROM llm_queries()").fetchall() == [(True,)]


def test_running_it_again_asks_for_the_failed_rows_alone() -> None:
    with opened(Fault(error=ServerFailed, rate=0.3, times=200)) as (con, fake):
        sql = f"SELECT v, LLM_SCORE('x', v) FROM {MANY}"
        first = dict(con.execute(sql).fetchall())
        failed = {v for v, answer in first.items() if answer is None}
        assert len(failed) == 200
        fake.requests.clear()
        again = dict(con.execute(sql).fetchall())
        assert {json.loads(request.fields)["v"] for request in fake.requests} == failed
        assert len(fake.requests) == 200
        assert None not in again.values()
        assert all(again[v] == answer for v, answer in first.items() if answer is not None)


def test_a_failure_tells_enough_to_act_on() -> None:
    with opened(Fault(error=ServerFailed, containing="row")) as (con, _):
        con.execute("SELECT LLM('x', v) FROM (VALUES ('row 1')) r(v)")
        [row] = con.execute(
            "SELECT statement, stage, function, model, cause, message, length(fields_hash), "
            "preview, attempts, status, recorded_at BETWEEN now()::TIMESTAMP - INTERVAL 1 DAY AND "
            "now()::TIMESTAMP + INTERVAL 1 DAY FROM llm_errors()"
        ).fetchall()
        assert row == (
            1, 1, "llm", "fake", "server error", "injected by quackllm.testing: ServerFailed", 16,
            '{"v":"row 1"}', 1, None, True,
        )  # fmt: skip


@pytest.mark.parametrize("call", ["LLM_FILTER('x', v)", "LLM('x', v)"])
def test_half_of_a_character_in_an_answer_fails_its_row_alone(call: str) -> None:
    """JSON may escape half of a surrogate pair, which no text of DuckDB's can hold."""
    with FakeServer(answer=lambda r: "true" if "fine" in r.fields else "maybe \ud83d") as server:
        con = quackllm.connect(base_url=server.base_url, model="fake-model", progress=False)
        with con:
            con.execute(f"SELECT v, {call} FROM (VALUES ('fine'), ('odd')) t(v) ORDER BY v")
            [(_, fine), (_, odd)] = con.fetchall()
            assert fine is not None and odd is None
            [(cause,)] = con.execute("SELECT cause FROM llm_errors()").fetchall()
            assert cause == "invalid answer"
            assert server.calls == 3, "asked once more, with what was wrong"


def test_half_of_a_character_in_a_message_can_be_looked_at() -> None:
    stage = StageStats(1, "llm", "m", "http://host")
    with quackllm.connect() as con:
        con.llm_engine.failures.append(
            failure_of(1, stage, "invalid answer", "half \ud83d", '{"v":"\udc00"}', attempts=1)
        )
        shown = con.execute("SELECT message, preview FROM llm_errors()").fetchall()
    assert shown == [("half ?", '{"v":"?"}')]
