"""Statements over answers that are kept: found again, shared, looked at, cleared."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import quackllm
from benchmarks.reliability.kill import killed
from benchmarks.reliability.two_processes import MOST_EXTRA, together
from quackllm.engine.cache.places import FILE_NAME, VARIABLE, default_path, place
from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Reply, Request
from quackllm.engine.settings import Settings
from quackllm.errors import BindError, ServerFailed
from quackllm.testing import FakeProvider, FakeServer, Fault

ROWS = "CREATE TABLE t AS SELECT i, 'row ' || i AS v, i % 7 AS w FROM range(40) r(i)"
SECRET = "sk-do-not-keep-5678"

Connect = Callable[..., Connection]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(keep=0) as running:
        yield running


@pytest.fixture
def connect(path: Path) -> Iterator[Connect]:
    """Connect with the cache file of the test, and make its table."""
    opened: list[Connection] = []

    def open_(provider: FakeProvider | None = None, **settings: Any) -> Connection:
        given = {"progress": False, "cache_path": str(path), **settings}
        opened.append(quackllm.connect(provider=provider, **given))
        opened[-1].execute(ROWS)
        return opened[-1]

    yield open_
    for connection in opened:
        connection.close()


def calls(fake: FakeProvider, con: Connection, sql: str) -> int:
    """How many calls a statement makes."""
    before = fake.calls
    con.execute(sql).fetchall()
    return fake.calls - before


# Promise 4: nothing is paid twice


def test_the_next_connection_pays_nothing(connect: Connect) -> None:
    first, second = FakeProvider(), FakeProvider()
    sql = "SELECT LLM('x', v) FROM t WHERE LLM_FILTER('y', w, v)"
    rows = connect(first).execute(sql).fetchall()
    con = connect(second)
    assert con.execute(sql).fetchall() == rows
    assert (first.calls > 40, second.calls) == (True, 0)
    assert f"{first.calls} answered from cache" in con.llm_engine.history[-1].summary()


def test_answers_are_on_the_disk_when_a_statement_has_ended(connect: Connect, path: Path) -> None:
    con = connect(FakeProvider())
    with sqlite3.connect(path) as database:
        for done in (1, 2, 3):
            con.execute(f"SELECT LLM('{done}', v) FROM t").fetchall()
            kept = database.execute("SELECT count(*) FROM answers").fetchall()
            assert kept == [(40 * done,)]
    database.close()


def test_the_order_of_arguments_is_no_part_of_the_key(connect: Connect) -> None:
    fake = FakeProvider()
    con = connect(fake)
    assert calls(fake, con, "SELECT LLM('x', v, w) FROM t") == 40
    assert calls(fake, con, "SELECT LLM('x', w, v, pin := 'w') FROM t ORDER BY i DESC") == 0


def test_what_changes_the_answer_asks_again(connect: Connect) -> None:
    fake = FakeProvider()
    con = connect(fake)
    for sql in (
        "SELECT LLM('x', v) FROM t",
        "SELECT LLM('y', v) FROM t",
        "SELECT LLM('x', v, max_tokens := 5) FROM t",
        "SELECT LLM_SCORE('x', v) FROM t",
        "SELECT LLM('x', u) FROM (SELECT v AS u FROM t)",
    ):
        assert calls(fake, con, sql) == 40
        assert calls(fake, con, sql) == 0


def test_a_failure_is_not_kept(connect: Connect) -> None:
    broken = FakeProvider(faults=[Fault(error=ServerFailed, containing="row 1")])
    con = connect(broken)
    failed = con.execute("SELECT i FROM t WHERE LLM('x', v) IS NULL").fetchall()
    assert len(failed) == 11
    well = FakeProvider()
    assert calls(well, connect(well), "SELECT LLM('x', v) FROM t") == len(failed)


def test_a_stopped_statement_keeps_what_was_answered(connect: Connect) -> None:
    broken = FakeProvider(faults=[Fault(error=ServerFailed, containing="row 35")])
    con = connect(broken, on_error="error", concurrency=1, reorder=False)
    with pytest.raises(ServerFailed):
        con.execute("SELECT LLM('x', v) FROM t")
    con.close()
    well = FakeProvider()
    assert calls(well, connect(well), "SELECT LLM('x', v) FROM t") == 41 - broken.calls


def test_cache_false_neither_looks_nor_keeps(connect: Connect) -> None:
    fake = FakeProvider()
    con = connect(fake)
    assert calls(fake, con, "SELECT LLM('x', v, cache := false) FROM t") == 40
    assert calls(fake, con, "SELECT LLM('x', v) FROM t") == 40
    assert calls(fake, con, "SELECT LLM('x', v, cache := false) FROM t") == 40
    con.execute("SET llm_cache = false")
    assert calls(fake, con, "SELECT LLM('x', v) FROM t") == 40
    assert calls(fake, con, "SELECT LLM('x', v, cache := true) FROM t") == 0


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ("temperature := 0", 0),
        ("temperature := 0.7", 40),
        ("temperature := 0.7, seed := 3", 0),
        ("temperature := 0.7, cache := true", 0),
    ],
)
def test_an_answer_by_chance_is_kept_only_with_a_seed(
    connect: Connect, options: str, again: int
) -> None:
    fake = FakeProvider()
    con = connect(fake)
    sql = f"SELECT LLM('x', v, {options}) AS a, LLM('x', v, {options}) AS b FROM t"
    assert calls(fake, con, sql) == 40, "within a statement an answer holds"
    assert calls(fake, con, sql) == again


def test_the_seed_reaches_the_server(connect: Connect) -> None:
    with FakeServer() as server:
        con = connect(base_url=server.base_url, model="fake-model")
        con.execute("SELECT LLM('x', 'y', seed := 7), LLM('x', 'z')").fetchall()
        sent = [r.body.get("seed") for r in server.received if r.method == "POST"]
    assert sorted(map(str, sent)) == ["7", "None"]


def test_explain_counts_what_is_kept_before_any_server_was_asked(
    connect: Connect, server: FakeServer
) -> None:
    settings = {"base_url": server.base_url, "model": "fake-model"}
    connect(**settings).execute("SELECT LLM('x', v) FROM t WHERE i < 30").fetchall()
    seen = server.calls
    plan = connect(**settings).execute("EXPLAIN SELECT LLM('x', v) FROM t").fetchall()[0][1]
    assert "30 of 40 answers are there already" in plan
    other = connect(**{**settings, "model": "another"})
    plan = other.execute("EXPLAIN SELECT LLM('x', v) FROM t").fetchall()[0][1]
    assert "there already" not in plan
    assert server.calls == seen


# One call for all who need it


def test_statements_at_once_share_their_calls(connect: Connect) -> None:
    fake = FakeProvider(latency=0.05)
    con = connect(fake)

    def run(_: int) -> list[tuple[str]]:
        rows: list[tuple[str]] = con.cursor().execute("SELECT LLM('x', v) FROM t").fetchall()
        return rows

    for setting in ("", ":memory:"):
        fake.calls = 0
        if setting:
            con.execute(f"SET llm_cache_path = '{setting}'")
        with ThreadPoolExecutor(4) as pool:
            first, *others = pool.map(run, range(4))
        assert fake.calls == 40
        assert all(rows == first for rows in others)


def test_who_waits_for_a_call_that_fails_asks_itself(connect: Connect) -> None:
    tried: list[str] = []
    lock = threading.Lock()

    def answer(request: Any) -> str:
        time.sleep(0.3)
        with lock:
            tried.append(request.fields)
            if len(tried) == 1:
                raise ServerFailed("the first one fails")
        return "fine"

    con = connect(FakeProvider(answer=answer), max_retries=0)
    with ThreadPoolExecutor(2) as pool:
        rows = list(
            pool.map(lambda _: con.cursor().execute("SELECT LLM('x', 'y')").fetchone(), range(2))
        )
    assert sorted(rows, key=str) == [("fine",), (None,)]
    assert len(tried) == 2


class Dawdling(FakeProvider):
    """Takes its time for one row, and fails once for another."""

    failed = False

    async def complete(self, request: Request) -> Reply:
        if "slow" in request.fields:
            await asyncio.sleep(4)
        if "fails" in request.fields and not self.failed:
            self.failed = True
            raise ServerFailed("the first one fails")
        return await super().complete(request)


def test_a_failed_call_is_free_for_others_at_once(connect: Connect) -> None:
    fake = Dawdling()
    con = connect(fake, max_retries=0)
    both = "SELECT LLM('x', v) FROM (VALUES ('slow'), ('fails')) r(v)"
    thread = threading.Thread(target=con.cursor().execute, args=(both,))
    thread.start()
    while not fake.failed:
        time.sleep(0.01)
    started = time.monotonic()
    [[answer]] = con.cursor().execute("SELECT LLM('x', v) FROM (SELECT 'fails' AS v)").fetchall()
    assert answer is not None
    assert thread.is_alive() and time.monotonic() - started < 4, "not when the other has ended"
    thread.join()


def test_waiting_for_others_can_be_interrupted(connect: Connect) -> None:
    fake = FakeProvider(latency=20)
    con = connect(fake)
    cursors = [con.cursor() for _ in range(2)]
    errors: list[BaseException] = []

    def run(cursor: Connection) -> None:
        try:
            cursor.execute("SELECT LLM('x', 'y')")
        except Exception as error:  # noqa: BLE001 - whatever class it is, it is looked at
            errors.append(error)

    threads = [threading.Thread(target=run, args=(cursor,)) for cursor in cursors]
    for thread in threads:
        thread.start()
    while not fake.in_flight:
        time.sleep(0.01)
    time.sleep(0.2)
    assert fake.calls == 1
    for cursor in cursors:
        cursor.interrupt()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert [type(error).__name__ for error in errors] == ["StatementCancelled"] * 2


def test_two_processes_make_the_calls_of_one(tmp_path: Path) -> None:
    report = together(120, tmp_path)
    assert report.rows_equal
    assert report.extra <= MOST_EXTRA
    assert min(report.by_process) > 0 or max(report.by_process) == 120


@pytest.mark.slow
def test_what_was_finished_before_kill_9_is_never_asked_again(tmp_path: Path) -> None:
    report = killed(300, 6, seed=1, folder=tmp_path)
    assert report.kills == 6
    assert report.again == 0
    assert report.rows_equal
    assert report.requests == 300 + report.lost + report.in_flight


# Looking into it, clearing it


def test_the_cache_can_be_looked_at(connect: Connect) -> None:
    con = connect(FakeProvider())
    con.execute("SELECT LLM('What is it?', v) FROM t").fetchall()
    con.execute("SELECT LLM_FILTER('y', v) FROM t WHERE i < 5").fetchall()
    grouped = con.execute(
        "SELECT function, model, endpoint, count(*), count(DISTINCT key), sum(bytes) > 0, "
        "min(created) > (now() AT TIME ZONE 'UTC')::TIMESTAMP - INTERVAL 1 HOUR "
        "FROM llm_cache() GROUP BY ALL ORDER BY 1"
    ).fetchall()
    assert grouped == [
        ("llm", "fake", "fake", 40, 40, True, True),
        ("llm_filter", "fake", "fake", 5, 5, True, True),
    ]
    relation = con.sql("SELECT question->>'$.constants.prompt' AS p FROM llm_cache()")
    con.execute("SELECT 1").fetchall()
    assert relation.aggregate("count(DISTINCT p)").fetchall() == [(2,)]
    joined = "SELECT count(LLM_FILTER('y', answer)) FROM llm_cache() WHERE function = 'llm'"
    assert con.sql(joined).fetchall() == [(40,)]
    del relation
    con.execute("SELECT 1").fetchall()
    assert con.execute("SHOW TABLES").fetchall() == [("t",)]


def test_the_values_of_arguments_are_not_in_the_file(connect: Connect, path: Path) -> None:
    con = connect(FakeProvider())
    con.execute("UPDATE t SET v = 'private-' || i")
    con.execute("SELECT LLM('What is it?', v) FROM t").fetchall()
    con.close()
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"What is it?" in content
    assert b"private-" not in content


def test_no_key_is_in_the_file(path: Path, connect: Connect) -> None:
    with FakeServer(api_key=SECRET) as server:
        url = server.base_url.replace("://", f"://user:{SECRET}@")
        con = connect(base_url=url, model="fake-model", api_key=SECRET)
        assert con.execute("SELECT LLM('x', v) IS NULL FROM t").fetchall() == [(False,)] * 40
        con.close()
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"fake-model" in content
    assert SECRET.encode() not in content


@pytest.mark.parametrize(
    ("command", "cleared"),
    [
        ("CALL llm_clear_cache()", 45),
        ("PRAGMA llm_clear_cache", 45),
        ("call LLM_CLEAR_CACHE ( ) -- all", 45),
        ("CALL llm_clear_cache(function := 'llm_filter')", 5),
        ("CALL llm_clear_cache(function := 'AI_FILTER')", 5),
        ("CALL llm_clear_cache(model = 'fake', function => 'llm')", 40),
        ("CALL llm_clear_cache(model := 'named')", 45),
        ("CALL llm_clear_cache(model := 'none')", 0),
        ("CALL llm_clear_cache(older_than := INTERVAL 1 DAY)", 0),
        ("CALL llm_clear_cache(older_than := '0 seconds')", 45),
        ("CALL llm_clear_cache(function := NULL)", 45),
    ],
)
@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_answers_are_cleared(connect: Connect, command: str, cleared: int, where: str) -> None:
    fake = FakeProvider()
    con = connect(fake, **({"cache_path": where} if where == ":memory:" else {}))
    con.execute("CREATE MODEL named (model 'fake')")
    con.execute("SELECT LLM('x', v) FROM t").fetchall()
    con.execute("SELECT LLM_FILTER('y', v) FROM t WHERE i < 5").fetchall()
    assert con.execute(command).fetchall() == [(cleared,)]
    assert con.execute("SELECT count(*) FROM llm_cache()").fetchall() == [(45 - cleared,)]
    assert con.sql(command).columns == ["answers_cleared"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("CALL llm_clear_cache(modle := 'x')", "did you mean model?"),
        ("CALL llm_clear_cache('x')", "the arguments are function := "),
        ("CALL llm_clear_cache(model := 5)", "model must be a text, not 5"),
        ("CALL llm_clear_cache(older_than := 'a while')", "older_than: Conversion Error"),
        ("CALL llm_clear_cache() twice", "not twice"),
    ],
)
def test_a_wrong_command_says_what_would_be_right(
    connect: Connect, command: str, words: str
) -> None:
    with pytest.raises(BindError) as error:
        connect(FakeProvider()).execute(command)
    assert words in str(error.value)


# Where the answers are


def test_where_answers_are_kept_when_nobody_says(tmp_path: Path) -> None:
    assert place(None, {}) == default_path()
    assert default_path().name == FILE_NAME
    assert place(None, {VARIABLE: str(tmp_path / "a")}) == tmp_path / "a"
    assert place("b", {VARIABLE: str(tmp_path / "a")}) == Path("b")
    assert place(":memory:", {VARIABLE: str(tmp_path / "a")}) is None
    assert place(None, {VARIABLE: ":memory:"}) is None
    assert place("~/c", {}) == Path.home() / "c"


def test_tests_do_not_touch_the_answers_of_the_user(server: FakeServer) -> None:
    before = default_path().stat().st_mtime if default_path().exists() else None
    with quackllm.connect(base_url=server.base_url, model="fake-model", progress=False) as con:
        con.execute("SELECT LLM('x', 'y')").fetchall()
        assert con.execute("SELECT count(*) FROM llm_cache()").fetchall() == [(1,)]
    after = default_path().stat().st_mtime if default_path().exists() else None
    assert before == after


def test_the_answers_of_an_object_outlive_it_only_when_told_to(path: Path) -> None:
    for provider, expected in ((FakeProvider(), False), (None, True)):
        engine = Engine(provider=provider, environ={VARIABLE: str(path)})
        answers = engine.answers(Settings())
        assert hasattr(answers, "path") is expected
        engine.close()


def test_a_file_that_cannot_be_used_is_one_line_and_the_statement_runs(
    connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    fake = FakeProvider()
    with caplog.at_level(logging.WARNING, logger="quackllm"):
        con = connect(fake, cache_path=str(tmp_path / "file" / "answers.sqlite"))
        assert calls(fake, con, "SELECT LLM('x', v) FROM t") == 40
        assert calls(fake, con, "SELECT LLM('x', v) FROM t") == 0
    [record] = caplog.records
    assert "cannot be used (" in record.message
    assert "\n" not in record.message


def test_a_small_cache_drops_what_was_unused_for_longest(connect: Connect, path: Path) -> None:
    con = connect(FakeProvider(answer=lambda _: "long " * 200), cache_limit="1MB")
    con.execute("CREATE TABLE many AS SELECT 'row ' || i AS v FROM range(60) r(i)")
    for number in range(55):
        con.execute(f"SELECT LLM('{number}', v) FROM many").fetchall()
    con.close()
    with sqlite3.connect(path) as database:
        [[size]] = database.execute("SELECT sum(length(answer)) FROM answers").fetchall()
    assert 200_000 < size < 1_500_000
