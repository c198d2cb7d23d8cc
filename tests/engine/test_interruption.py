"""A statement ends when another thread asks for it, and what was answered is kept (promise 4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import StatementCancelled
from quackllm.testing import FakeProvider

HANGS_SECONDS = 60.0
QUESTION = "SELECT s, LLM_FILTER('Is it odd?', s) FROM t"


@pytest.fixture
def slow() -> FakeProvider:
    return FakeProvider(latency=HANGS_SECONDS)


@pytest.fixture
def con(slow: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=slow, progress=False, concurrency=4) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'row ' || i AS s FROM range(50) r(i)")
        yield connection


class Interrupter(threading.Thread):
    """Interrupts the connection as soon as calls are in flight."""

    def __init__(self, connection: Connection, slow: FakeProvider) -> None:
        super().__init__()
        self._connection, self._slow = connection, slow
        self.at = 0.0

    def run(self) -> None:
        while not self._slow.in_flight:
            time.sleep(0.005)
        self.at = time.monotonic()
        self._connection.interrupt()


def interrupt_when_calling(connection: Connection, slow: FakeProvider) -> Interrupter:
    thread = Interrupter(connection, slow)
    thread.start()
    return thread


@pytest.mark.parametrize("method", ["execute", "answered"])
def test_calls_in_flight_end_within_a_second(
    con: Connection, slow: FakeProvider, method: str
) -> None:
    thread = interrupt_when_calling(con, slow)
    with pytest.raises(StatementCancelled, match="answers that had arrived are kept"):
        getattr(con, method)(QUESTION)
    ended = time.monotonic()
    thread.join()
    assert ended - thread.at < 1
    assert slow.in_flight == 0
    assert slow.calls == 4, "nothing is sent after the end"


def test_a_call_of_the_scalar_function_ends_too(con: Connection, slow: FakeProvider) -> None:
    thread = interrupt_when_calling(con, slow)
    with pytest.raises(StatementCancelled):
        con.execute("UPDATE t SET s = LLM('Say more.', s)")
    thread.join()
    assert slow.in_flight == 0


def test_the_connection_goes_on_and_an_idle_one_ignores_it(
    con: Connection, slow: FakeProvider
) -> None:
    thread = interrupt_when_calling(con, slow)
    with pytest.raises(StatementCancelled):
        con.execute(QUESTION)
    thread.join()
    con.interrupt()
    assert con.execute("SELECT count(*) FROM t").fetchall() == [(50,)]


def test_another_cursor_is_not_disturbed(con: Connection, slow: FakeProvider) -> None:
    con.cursor().interrupt()
    thread = interrupt_when_calling(con, slow)
    other = con.cursor()
    with pytest.raises(StatementCancelled):
        con.execute(QUESTION)
    thread.join()
    assert other.execute("SELECT count(*) FROM t").fetchall() == [(50,)]


def test_answered_keeps_its_rows_and_asks_once() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False, cache=False) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'row ' || i AS s FROM range(5) r(i)")
        relation = connection.answered(QUESTION)
        assert relation.columns[0] == "s"
        rows = relation.fetchall()
        connection.execute("DROP TABLE t")
        assert relation.quackllm_finished().project("#1").fetchall() == [(row[0],) for row in rows]
        assert fake.calls == 5
