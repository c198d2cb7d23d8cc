"""Promise 3: a failure is NULL with its cause, or stops the statement; nothing is paid twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import (
    AuthenticationFailed,
    CallError,
    CallTimedOut,
    ContextWindowExceeded,
    InvalidAnswer,
    ProviderError,
    ServerFailed,
)
from quackllm.testing import FakeProvider, Fault

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
        assert [(c, preview) for c, preview, _ in failures] == [(cause, '{"v": "row 3"}')]
        assert failures[0][2] in call.lower()
        assert con.execute("SELECT sum(failures), sum(calls) FROM llm_queries()").fetchall() == [
            (1, 20)
        ]
    assert f"1 of 20 calls failed and are NULL (1 {cause})" in caplog.text


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
