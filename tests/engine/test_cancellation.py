"""However a statement ends early, the server sees its calls end, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import psutil
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import CallError, ServerUnreachable, StatementCancelled
from quackllm.testing import FakeServer, HttpFault

CALLS_IN_FLIGHT = 16
RESOLVER_THREADS = 6  # asyncio makes them one by one, when a connection is opened
STAGED = "SELECT LLM_FILTER('Is it odd?', s) FROM t"
SCALAR = "SELECT list_transform([s], s -> LLM_FILTER('Is it odd?', s)) FROM t"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that takes every request and answers none."""
    with FakeServer(faults=[HttpFault.hanging()], keep=0) as hanging:
        yield hanging


def connected(server: FakeServer, **settings: Any) -> Connection:
    con = quackllm.connect(
        base_url=server.base_url, concurrency=CALLS_IN_FLIGHT, progress=False, **settings
    )
    con.execute("CREATE TABLE t AS SELECT 'row ' || i AS s FROM range(5000) r(i)")
    return con


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def run_until(
    server: FakeServer, statement: Callable[[], object], end: Callable[[], None]
) -> BaseException:
    """Run a statement, end it when all its calls are at the server; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            statement()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at
            raised.append(error)

    abandoned = server.abandoned
    thread = threading.Thread(target=run)
    thread.start()
    # DuckDB may run the scalar function in several threads: then the first chunk has them all.
    calls = server.calls
    until(lambda: server.calls - calls >= CALLS_IN_FLIGHT)
    asked = time.monotonic()
    end()
    until(lambda: server.abandoned - abandoned >= CALLS_IN_FLIGHT, seconds=1.0)
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - asked < 2.0
    assert server.calls - calls == CALLS_IN_FLIGHT, "nothing is sent afterwards"
    return raised[0]


@pytest.mark.parametrize("sql", [STAGED, SCALAR], ids=["staged", "scalar"])
def test_the_server_sees_an_interrupted_statement_hang_up_within_a_second(
    server: FakeServer, sql: str
) -> None:
    with connected(server) as con:
        error = run_until(server, lambda: con.execute(sql), con.interrupt)
        assert isinstance(error, duckdb.InterruptException)
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(5000,)]


def test_closing_a_cursor_ends_its_calls_and_no_others(server: FakeServer) -> None:
    with connected(server) as con:
        cursor = con.cursor()
        error = run_until(server, lambda: cursor.execute(STAGED), cursor.close)
        assert isinstance(error, duckdb.Error)
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(5000,)]


def test_closing_the_connection_ends_the_calls_of_its_cursors(server: FakeServer) -> None:
    con = connected(server)
    cursor = con.cursor()
    error = run_until(server, lambda: cursor.execute(STAGED), con.close)
    assert isinstance(error, StatementCancelled)
    until(lambda: server.connections == 0)


def test_a_time_limit_of_the_statement_ends_its_calls(server: FakeServer) -> None:
    with connected(server, timeout=0.5) as con:
        began = time.monotonic()
        with pytest.raises(Exception, match="llm_timeout"):
            con.execute(STAGED)
        assert time.monotonic() - began < 5
        until(lambda: server.abandoned >= CALLS_IN_FLIGHT, seconds=1.0)


def left_open() -> tuple[int, int]:
    """Threads and open files, sockets included, of this process."""
    process = psutil.Process()
    return process.num_threads(), process.num_fds()


def test_many_interruptions_leave_no_thread_and_no_socket(server: FakeServer) -> None:
    with connected(server) as con:
        for _ in range(3):
            run_until(server, lambda: con.execute(STAGED), con.interrupt)
        threads, files = left_open()
        for _ in range(25):
            run_until(server, lambda: con.execute(STAGED), con.interrupt)
        until(lambda: server.connections <= 2)
        after_threads, after_files = left_open()
        assert after_threads <= threads + RESOLVER_THREADS
        assert after_files <= files + 2


def test_timeouts_leave_no_thread_and_no_socket(server: FakeServer) -> None:
    with connected(server, call_timeout=0.05, max_retries=0, on_error="error") as con:
        for rounds in (3, 25):
            for _ in range(rounds):
                with pytest.raises((CallError, ServerUnreachable)):
                    con.execute(STAGED)
            until(lambda: server.connections <= 2)
            if rounds == 3:
                threads, files = left_open()
        after_threads, after_files = left_open()
        assert after_threads <= threads + RESOLVER_THREADS
        assert after_files <= files + 2
