"""What calls a model and what never does; cancel, notices, clients that vanish (promise 4)."""

from __future__ import annotations

import struct
import threading
import time

import psutil
import psycopg
import pytest

from quackllm.testing import FakeProvider, FakeServer
from tests.server.pgwire.running import Running, Wire, running

QUESTION = "SELECT id, LLM_FILTER('Is it odd?', synopsis) AS odd FROM movies"


@pytest.mark.parametrize(
    "sql",
    [
        f"EXPLAIN {QUESTION}",
        f"SELECT * FROM ({QUESTION}) t LIMIT 0",
        f"CREATE OR REPLACE VIEW asked AS {QUESTION}",
        "SELECT table_name, column_name FROM information_schema.columns",
        "SELECT relname, pg_get_viewdef(oid) FROM pg_catalog.pg_class",
        f"PREPARE question AS {QUESTION}",
        f"BEGIN; DECLARE c CURSOR FOR {QUESTION}; ROLLBACK",
    ],
    ids=["explain", "limit 0", "view", "information_schema", "pg_class", "prepare", "declare"],
)
def test_no_model_is_called_by(served: Running, pg: psycopg.Connection, sql: str) -> None:
    before = served.fake.calls
    pg.execute(sql)
    assert served.fake.calls == before


def test_no_model_is_called_before_execute(served: Running, wire: Wire) -> None:
    before = served.fake.calls
    sql = b"SELECT LLM_FILTER($1, title), LLM('Why?', synopsis) FROM movies WHERE id = $2"
    wire.message(b"P", b"s\0" + sql + b"\0\0\0")
    wire.message(b"D", b"Ss\0")
    values = struct.pack("!i", 3) + b"Is?" + struct.pack("!i", 1) + b"3"
    wire.message(b"B", b"p\0s\0" + struct.pack("!HH", 0, 2) + values + struct.pack("!H", 0))
    wire.message(b"D", b"Pp\0")
    wire.message(b"H")
    answered = [wire.answer() for _ in range(5)]
    assert [one and one[0] for one in answered] == [b"1", b"t", b"T", b"2", b"T"]
    assert served.fake.calls == before
    wire.message(b"E", b"p\0" + struct.pack("!i", 0))
    wire.message(b"S")
    wire.answers()
    assert served.fake.calls == before + 2
    assert any("Is?" in request.instruction for request in list(served.fake.requests)[-2:])


def test_a_parameter_is_a_prompt_as_if_it_had_been_typed(pg: psycopg.Connection) -> None:
    typed = pg.execute("SELECT LLM_FILTER('Is it long?', title) FROM movies ORDER BY id").fetchall()
    sent = pg.execute("SELECT LLM_FILTER(%s, title) FROM movies ORDER BY id", ("Is it long?",))
    assert sent.fetchall() == typed


def test_a_warning_says_what_is_hardly_meant(served: Running) -> None:
    told: list[tuple[str, str]] = []
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        connection.add_notice_handler(
            lambda notice: told.append((notice.severity or "", notice.message_primary or ""))
        )
        connection.execute("SELECT 1 FROM movies WHERE LLM_SENTIMENT(title) = 'Positive'")
    assert [severity for severity, _ in told] == ["WARNING", "NOTICE"]
    assert "is compared with 'Positive', which it never is" in told[0][1]


def test_a_notice_says_what_it_cost(served: Running) -> None:
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        connection.execute("SELECT LLM('Only here', title) FROM movies WHERE id < 3").fetchall()
        connection.execute("SELECT LLM('Only here', title) FROM movies WHERE id < 3").fetchall()
        connection.execute("SELECT 1")
    assert len(told) == 2
    assert told[0].startswith("3 calls")
    assert "3 answered from" in told[1]


def test_a_cursor_asks_each_question_once(served: Running) -> None:
    before = served.fake.calls
    with psycopg.connect(served.dsn) as connection, connection.cursor("c") as cursor:
        cursor.execute("SELECT LLM('By cursor', title) FROM movies WHERE id < 10")
        assert served.fake.calls == before, "it is described, and not run"
        assert len(cursor.fetchmany(4)) == 4
        assert len(cursor.fetchall()) == 6
    assert served.fake.calls == before + 10


def slow_server() -> FakeProvider:
    return FakeProvider(latency=60.0)


def wait_until(condition: object, seconds: float = 10.0) -> float:
    started = time.monotonic()
    assert callable(condition)
    while not condition():
        assert time.monotonic() - started < seconds, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - started


def test_cancel_frees_the_model_within_a_second_and_the_session_goes_on() -> None:
    with running(fake=slow_server()) as served, psycopg.connect(served.dsn) as connection:
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                connection.execute(QUESTION)
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: served.fake.in_flight)
        connection.cancel_safe()  # the other way blocks the interpreter, and the server is in it
        assert wait_until(lambda: not served.fake.in_flight) < 1
        thread.join(10)
        assert [type(error) for error in failed] == [psycopg.errors.QueryCanceled]
        connection.rollback()
        assert connection.execute("SELECT 42").fetchone() == (42,)


def test_a_cancel_among_the_rows_ends_them_and_the_session_goes_on(served: Running) -> None:
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        rows = connection.cursor().stream("SELECT i, DATE '2020-01-01' FROM range(50000000) r(i)")
        assert next(iter(rows))[0] == 0
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            for _ in rows:
                pass
        assert connection.execute("SELECT 42").fetchone() == (42,)


def test_a_wrong_secret_cancels_nothing() -> None:
    with running(fake=slow_server()) as served, Wire(served.port) as client:
        key = next(body for kind, body in client.start() if kind == b"K")
        pid, secret = struct.unpack("!ii", key)
        client.message(b"Q", QUESTION.encode() + b"\0")
        wait_until(lambda: served.fake.in_flight)
        with Wire(served.port) as other:
            other.send(struct.pack("!iiii", 16, 80877102, pid, secret ^ 1))
            assert other.answer() is None
        time.sleep(0.1)
        assert served.fake.in_flight


def test_a_client_that_vanishes_ends_its_calls() -> None:
    with running(fake=slow_server()) as served:
        client = Wire(served.port)
        client.start()
        client.message(b"Q", QUESTION.encode() + b"\0")
        wait_until(lambda: served.fake.in_flight)
        client.socket.close()
        assert wait_until(lambda: not served.fake.in_flight) < 1
        wait_until(lambda: len(served.server.registry) == 0)


def test_clients_that_vanish_under_load_leave_no_thread_and_no_socket() -> None:
    """Four at a time, each with 32 calls in flight at a real model server."""

    def held() -> tuple[int, int]:
        process = psutil.Process()
        return process.num_threads(), process.num_fds()

    asking = b"SELECT LLM('x', i) FROM range(5000) r(i)\0"
    with (
        FakeServer(latency=60.0) as model,
        running(base_url=model.base_url, model="fake-model", concurrency=32, cache=False) as served,
    ):
        for round_ in range(8):
            clients = [Wire(served.port) for _ in range(4)]
            gone = model.abandoned
            for client in clients:
                client.start()
                client.message(b"Q", asking)
            wait_until(lambda gone=gone: model.calls >= gone + 32)
            for client in clients:
                client.socket.close()
            seconds = wait_until(lambda gone=gone: model.abandoned >= gone + 32)
            assert seconds < 1
            wait_until(lambda: len(served.server.registry) == 0 and model.connections <= 2)
            if round_ == 1:
                threads, files = held()
        more_threads, more_files = held()
        assert more_threads <= threads + 2
        assert more_files <= files + 2


def test_a_client_that_vanishes_in_the_middle_of_rows_disturbs_nobody(served: Running) -> None:
    with Wire(served.port) as client:
        client.start()
        client.message(b"Q", b"SELECT repeat('x', 1000) FROM range(1000000)\0")
        client.socket.recv(1000)
    with psycopg.connect(served.dsn) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)
    wait_until(lambda: len(served.server.registry) == 0)


def test_a_server_that_stops_tells_its_clients_and_ends_calls() -> None:
    fake = slow_server()
    with running(fake=fake) as served:
        client = Wire(served.port)
        client.start()
        client.message(b"Q", QUESTION.encode() + b"\0")
        wait_until(lambda: fake.in_flight)
    assert fake.in_flight == 0
    said = b"".join(body for _, body in client.answers())
    assert b"57P01" in said or b"57014" in said


def test_sessions_are_listed_cancelled_and_ended_by_sql() -> None:
    with (
        running(fake=slow_server()) as served,
        psycopg.connect(served.dsn, autocommit=True) as boss,
        Wire(served.port) as client,
    ):
        key = next(body for kind, body in client.start(application_name="slow") if kind == b"K")
        pid = struct.unpack("!ii", key)[0]
        client.message(b"Q", QUESTION.encode() + b"\0")
        wait_until(lambda: served.fake.in_flight)
        listed = "SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'slow'"
        assert boss.execute(listed).fetchall() == [(pid, "active", QUESTION)]
        assert boss.execute("SELECT pg_cancel_backend(%s)", (pid,)).fetchone() == (True,)
        assert "57014" in str(client.answers())
        assert boss.execute("SELECT pg_terminate_backend(%s)", (pid,)).fetchone() == (True,)
        assert "57P01" in str(client.answers())
        wait_until(lambda: boss.execute(listed).fetchall() == [])


def test_thirty_two_clients_at_once(served: Running) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with psycopg.connect(served.dsn, autocommit=True) as connection:
                for i in range(5):
                    assert connection.execute("SELECT %s::INT", (number * i,)).fetchone() == (
                        number * i,
                    )
                connection.execute(QUESTION + " WHERE id < 3").fetchall()
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


SEARCH = "SELECT s.id, rank FROM llm_search('movies', 'synopsis', 'ducks', k := 3) AS s"


@pytest.mark.parametrize(
    "sql",
    [
        f"EXPLAIN {SEARCH}",
        f"SELECT * FROM ({SEARCH}) t LIMIT 0",
        f"CREATE OR REPLACE VIEW searched AS {SEARCH}",
        f"BEGIN; DECLARE c CURSOR FOR {SEARCH}; ROLLBACK",
    ],
    ids=["explain", "limit 0", "view", "declare"],
)
def test_no_model_is_called_for_a_table_function_by(
    served: Running, pg: psycopg.Connection, sql: str
) -> None:
    before = served.fake.calls
    pg.execute(sql)
    assert served.fake.calls == before


def test_a_table_function_is_searched_over_the_wire(pg: psycopg.Connection) -> None:
    found = pg.execute(SEARCH).fetchall()
    assert [rank for _, rank in found] == [1, 2, 3]
    sent = pg.execute(SEARCH.replace("'ducks', k := 3", "%s, k := %s"), ("ducks", 3))
    assert sent.fetchall() == found
    pg.execute(f"CREATE OR REPLACE VIEW searched AS {SEARCH}")
    assert pg.execute("SELECT * FROM searched").fetchall() == found
