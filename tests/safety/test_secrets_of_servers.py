"""A key that a client gives to a server, or that it was started with, is shown to nobody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyarrow import flight

from quackllm.engine.introspection import TABLES
from quackllm.server.flight.messages import message, wrapped
from quackllm.testing import FakeServer, HttpFault
from tests.safety.test_secrets import CANARY, ECHO
from tests.server.flight.running import flying
from tests.server.pgwire.running import running

GIVEN = [
    "SET llm_base_url = '{url}'",
    f"SET llm_api_key = '{CANARY}'",
    f"CREATE MODEL mine (model 'fake-model', base_url '{{url}}', api_key '{CANARY}')",
    f"CREATE SECRET s (TYPE llm, KEY '{CANARY}', SCOPE '{{url}}')",
    f"SET llm_api_key = '{CANARY}' || 'x'",
]
"""Statements that give the key, to a model server at the url; the last is an error."""

ASKED = [
    "SELECT LLM('x', id) FROM movies LIMIT 2",
    "SELECT LLM('x', id, on_error := 'error') FROM movies",
    "EXPLAIN (ANALYZE, FORMAT json) SELECT LLM('x', id) FROM movies LIMIT 2",
    *(f"FROM {table.name}()" for table in TABLES),
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM pg_settings",
    "SHOW ALL",
    "SELECT current_setting('llm_api_key')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
]


def seen(run: Callable[[str], Any], statements: Iterable[str]) -> list[str]:
    """Return what the statements give, rows or an error, each as a text."""
    found = []
    for sql in statements:
        try:
            found.append(f"{sql}: {run(sql)}")
        except (psycopg.Error, flight.FlightError, pa.ArrowException) as error:
            found.append(f"{sql}: {error!r} {error}")
    return found


def leaks(texts: Iterable[str]) -> list[str]:
    return [text[max(text.find(CANARY) - 200, 0) :][:300] for text in texts if CANARY in text]


@pytest.mark.parametrize("faults", [[], [HttpFault(status=401, body=ECHO)]])
def test_no_client_of_postgresql_sees_the_key_of_another(faults: list[HttpFault]) -> None:
    with (
        FakeServer(faults=faults) as model,
        running(base_url="http://127.0.0.1:9/v1", model="fake-model") as served,
        psycopg.connect(served.dsn, autocommit=True) as one,
        psycopg.connect(served.dsn, autocommit=True) as other,
    ):

        def run(client: psycopg.Connection[Any]) -> Callable[[str], Any]:
            return lambda sql: client.execute(sql.encode()).fetchall()

        texts = []
        for sql in (given.format(url=model.base_url) for given in GIVEN):
            with suppress(psycopg.Error):
                one.execute(sql.encode())
            texts += seen(run(other), ["SELECT * FROM pg_stat_activity"])
        for client in (one, other):
            texts += seen(run(client), ASKED)
        assert any(CANARY in str(request.headers) for request in model.received), "it was used"
        assert len(texts) > 30
        assert leaks(texts) == []


def test_no_client_of_flight_sees_the_key_of_another() -> None:
    def ask(client: flight.FlightClient) -> Callable[[str], Any]:
        def run(sql: str) -> Any:
            command = wrapped(message("CommandStatementQuery", query=sql))
            info = client.get_flight_info(flight.FlightDescriptor.for_command(command))
            table: pa.Table = client.do_get(info.endpoints[0].ticket).read_all()
            return table.to_pylist()

        return run

    with (
        FakeServer() as model,
        flying() as served,
        flight.connect(served.address) as one,
        flight.connect(served.address) as other,
    ):
        given = [sql.format(url=model.base_url) for sql in GIVEN]
        for sql, said in zip(given, seen(ask(one), given), strict=True):
            assert CANARY not in said.removeprefix(sql)
        queries = [activity.query for activity in served.databases.registry.sessions()]
        texts = [*queries, *seen(ask(one), ASKED), *seen(ask(other), ASKED)]
        assert leaks(texts) == []


def test_a_server_that_crashes_leaves_no_key_behind(tmp_path: Path) -> None:
    """Its log, the dump of its threads, its database, the answers and journals on the disk."""
    with FakeServer(latency=0.05) as model:
        environment = {
            **os.environ,
            "OPENAI_API_KEY": CANARY,
            "OPENAI_BASE_URL": model.base_url,
            "QUACKLLM_CACHE": str(tmp_path / "answers.sqlite"),
            "PYTHONFAULTHANDLER": "1",
        }
        command = [sys.executable, "-m", "quackllm", "serve", str(tmp_path / "x.duckdb")]
        log = tmp_path / "log"
        with log.open("w") as file:
            process = subprocess.Popen([*command, "--port", "0"], stderr=file, env=environment)
        try:
            port = port_of(log)
            dsn = f"postgresql://me@127.0.0.1:{port}/x"
            with suppress(psycopg.Error), psycopg.connect(dsn, autocommit=True) as client:
                client.execute(f"SET llm_api_key = '{CANARY}'".encode())
                client.execute(b"SELECT LLM('x', i) FROM range(20) r(i)")
                sent = model.calls
                with client.pipeline() as pipeline:
                    client.execute(b"SELECT LLM('y', i) FROM range(5000) r(i)")
                    pipeline.sync()
                    while model.calls < sent + 200:
                        time.sleep(0.02)
                    process.send_signal(signal.SIGABRT)
            process.wait(30)
        finally:
            process.kill()
        assert any(CANARY in str(request.headers) for request in model.received), "it was used"
    assert "Fatal Python error: Aborted" in log.read_text()
    assert list(tmp_path.glob("answers.sqlite.arrived-*")), "journals were left"
    files = {path.name: path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()}
    assert len(files) >= 5
    assert [name for name, text in files.items() if CANARY in text] == []


def port_of(log: Path) -> int:
    """Wait until a server says on which port it serves."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if found := re.search(r"serving .* on .*:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(log.read_text())
