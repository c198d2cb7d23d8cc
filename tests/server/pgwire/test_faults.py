"""The server's own errors are counted and logged without values; clients get a clear message."""

from __future__ import annotations

import logging

import duckdb
import psycopg
import pytest

from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.faults import Faults
from quackllm.server.pgwire.worker import Worker
from tests.server.pgwire.running import Running


def failing(secret: str) -> None:
    raise KeyError(secret) from ValueError(f"key {secret}")


def test_a_fault_is_logged_with_its_place_and_without_its_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = Faults()
    with caplog.at_level(logging.ERROR, "quackllm.server"):
        try:
            failing("-".join(("sk", "very", "secret")))
        except KeyError as error:
            assert faults.note(error) == 1
    assert "sk-very-secret" not in caplog.text
    assert "KeyError" in caplog.text
    assert "ValueError" in caplog.text
    assert "in failing" in caplog.text
    assert faults.count == 1


@pytest.mark.parametrize(
    "error",
    [WireError(SqlState.SYNTAX, "x"), duckdb.BinderException("x"), ConnectionResetError("x")],
)
def test_what_the_client_did_is_no_fault(error: Exception) -> None:
    faults = Faults()
    assert faults.note(error) == 0
    assert faults.count == 0


def test_a_statement_that_meets_a_fault_is_an_error_and_the_session_goes_on(
    served: Running,
    pg: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = served.server.databases.faults.count

    def broken(*_: object) -> None:
        raise RuntimeError(f"the value was {4700 + 11}")

    monkeypatch.setattr(Worker, "execute", broken)
    with pytest.raises(psycopg.errors.InternalError_, match="RuntimeError") as caught:
        pg.execute("SELECT 1")
    monkeypatch.undo()
    number = served.server.databases.faults.count
    assert number == before + 1
    assert f"fault {number} of the server's" in (caught.value.diag.message_hint or "")
    assert "broken" in caplog.text
    assert "4711" in (caught.value.diag.message_primary or "")
    assert "4711" not in caplog.text
    assert pg.execute("SELECT 1").fetchone() == (1,)
