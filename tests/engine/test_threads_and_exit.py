"""Threads, interruption and the end of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider


def test_cursors_in_threads_run_statements_at_once() -> None:
    fake = FakeProvider(latency=0.05)
    with quackllm.connect(provider=fake, progress=False, cache=False, concurrency=100) as con:
        con.execute("CREATE TABLE t AS SELECT i, 'row ' || i AS v FROM range(60) r(i)")

        def run(number: int) -> list[tuple[int, str]]:
            cursor = con.cursor()
            sql = f"SELECT i, LLM('question {number % 3}', v) FROM t ORDER BY i"
            if number % 2:
                sql = f"SELECT i, list_transform([v], v -> LLM('question {number % 3}', v))[1] FROM t ORDER BY i"  # fmt: skip  # noqa: E501
            rows: list[tuple[int, str]] = cursor.execute(sql).fetchall()
            cursor.close()
            return rows

        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(run, range(6)))
        for number, rows in enumerate(results):
            assert (
                rows
                == con.execute(
                    f"SELECT i, LLM('question {number % 3}', v) FROM t ORDER BY i"
                ).fetchall()
            )
        assert fake.most_in_flight > 60, "statements of two threads were in flight at once"
        numbers = con.execute("SELECT statement FROM llm_queries() ORDER BY 1").fetchall()
        assert numbers == [(i + 1,) for i in range(len(numbers))]


def test_closing_from_another_thread_ends_a_statement() -> None:
    fake = FakeProvider(latency=30)
    con = quackllm.connect(provider=fake, progress=False)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            con.cursor().execute("SELECT LLM('x', 'y')")
        except Exception as error:  # noqa: BLE001 - whatever class it is, it is looked at
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not fake.in_flight:
        time.sleep(0.01)
    con.llm_engine.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "Interrupted" in str(errors[0])
    con.close()


PRELUDE = """
import sys
import quackllm
from quackllm.testing import FakeProvider
fake = FakeProvider(latency={latency})
con = quackllm.connect(provider=fake, progress=False)
con.execute("CREATE TABLE t AS SELECT 'row ' || i AS v FROM range({rows}) r(i)")
"""


def script(body: str, latency: float = 0, rows: int = 20) -> list[str]:
    return [sys.executable, "-c", PRELUDE.format(latency=latency, rows=rows) + body]


INTERRUPTED = """
import threading, time
def report():
    while not fake.in_flight:
        time.sleep(0.01)
    print("begun", flush=True)
threading.Thread(target=report).start()
try:
    {}
except KeyboardInterrupt:
    print("interrupted", flush=True)
except Exception as error:
    print(type(error).__name__, error, flush=True)
print(con.execute("SELECT count(*) FROM t").fetchall(), fake.in_flight)
print(con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%llm%'").fetchall())
fake._latency = 0
print(len(con.execute("SELECT LLM('again', v) FROM t").fetchall()))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "con.execute(\"SELECT LLM('x', v) FROM t\")",
        "con.execute(\"CREATE TABLE c AS SELECT LLM('x', v) FROM t\")",
        "con.execute(\"SELECT list_transform([v], v -> LLM('x', v)) FROM t\")",
        "con.execute(\"SELECT list_transform([v], v -> LLM('x', v)) FROM t, range(5000)\")",
    ],
)
def test_ctrl_c_ends_a_statement_and_leaves_the_connection_usable(statement: str) -> None:
    command = script(INTERRUPTED.format(statement), latency=1, rows=1000)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        started = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < 50, "all calls take a minute"
    assert out.splitlines() == ["interrupted", "[(1000,)] 0", "[(0,)]", "1000"]
    assert err == ""


@pytest.mark.parametrize(
    "body",
    [
        "con.execute(\"SELECT LLM('x', v) FROM t\").fetchone()",
        "relation = con.sql(\"SELECT LLM('x', v) FROM t\"); relation.fetchall()",
        "cursor = con.cursor(); cursor.execute(\"SELECT LLM('x', v) FROM t\")",
        "con.begin(); con.execute('INSERT INTO t VALUES (1)')",
        "con.execute(\"CREATE VIEW w AS SELECT LLM('x', v) FROM t\"); con.execute('FROM w')",
        "other = quackllm.connect(provider=fake); other.execute(\"SELECT LLM('x', 1)\")",
    ],
)
def test_nothing_is_said_at_exit(body: str) -> None:
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_is_said_at_exit_of_a_client_over_http(tmp_path: Path) -> None:
    body = """
from quackllm.testing import FakeServer
server = FakeServer().__enter__()
web = quackllm.connect(base_url=server.base_url, model="fake-model", progress=False)
print(len(web.execute("SELECT LLM('x', v) FROM range(5) r(v)").fetchall()))
"""
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")


def test_a_database_file_is_free_after_closing(tmp_path: Path) -> None:
    path = str(tmp_path / "db.duckdb")
    for _ in range(2):
        with quackllm.connect(path, provider=FakeProvider(), progress=False) as con:
            assert isinstance(con, Connection)
            con.execute("CREATE OR REPLACE TABLE t AS SELECT LLM('x', 'y') AS w")
    with quackllm.connect(path, read_only=True, provider=FakeProvider(), progress=False) as con:
        assert con.execute("SELECT LLM('z', w) IS NOT NULL FROM t").fetchall() == [(True,)]
        con.execute("SET llm_cache = true")
        assert con.execute("SELECT count(*) FROM llm_queries()").fetchall() == [(1,)]
