"""A real vLLM behind what goes wrong in practice: right rows, or an error that says what to do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import ModelNotFound, ServerUnreachable
from tests.engine.when_called import when_called
from tests.vllm.conftest import FILMS, SecondServer, last
from tests.vllm.forwarding import COMPLETIONS, Body, forwarding

pytestmark = pytest.mark.vllm

QUESTION = "SELECT id, LLM_FILTER('Is it about ducks?', title, synopsis) FROM films ORDER BY id"
ROWS = 40


def connect(url: str, **settings: Any) -> Connection:
    """Return a connection with the films, that remembers answers in memory only."""
    con = quackllm.connect(
        base_url=url, **{"cache_path": ":memory:", "progress": False, **settings}
    )
    con.execute(FILMS)
    return con


@pytest.fixture(scope="module")
def root(vllm_url: str) -> str:
    """The address of the server without '/v1'."""
    return vllm_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def expected(vllm_url: str) -> list[Any]:
    """What the question is answered with when nothing goes wrong."""
    with connect(vllm_url) as con:
        rows: list[Any] = con.execute(QUESTION).fetchall()
        return rows


def nearly(rows: list[Any], expected: list[Any]) -> bool:
    """Whether rows are the same but for near ties, which turn in batches of another size."""
    assert [row[0] for row in rows] == [row[0] for row in expected]
    assert all(answer in (True, False) for _, answer in rows)
    agreed = sum(bool(a == b) for a, b in zip(rows, expected, strict=True))
    return agreed >= 0.9 * len(expected)


def test_closed_metrics_leave_the_cache_unknown_and_reuse_as_it_was(
    root: str, expected: list[Any]
) -> None:
    with forwarding(root, closed=("/metrics",)) as server, connect(server.base_url) as con:
        rows = con.execute(QUESTION).fetchall()
        shown = con.execute("SELECT prefix_granularity, cache_tokens FROM llm_models()").fetchall()
        cost = last(con)
    assert nearly(rows, expected)
    assert shown == [(None, None)]
    assert cost["cached_tokens"] > 0.4 * cost["prompt_tokens"]


@pytest.mark.parametrize("details", [None, {"cached_tokens": -5}, {"cached_tokens": 10**9}])
def test_cached_tokens_that_are_not_told_or_cannot_be_count_as_none(
    root: str, expected: list[Any], details: Body | None, caplog: pytest.LogCaptureFixture
) -> None:
    def said(path: str, reply: Body) -> Body:
        if path == COMPLETIONS:
            reply["usage"]["prompt_tokens_details"] = details
        return reply

    with (
        caplog.at_level(logging.INFO, "quackllm"),
        forwarding(root, said=said) as server,
        connect(server.base_url) as con,
    ):
        rows = con.execute(QUESTION).fetchall()
        cost = last(con)
    assert nearly(rows, expected)
    assert cost["cached_tokens"] is None
    assert cost["prompt_tokens"] > 0
    assert caplog.text.count("--enable-prompt-tokens-details") == 1


@pytest.mark.parametrize(
    ("call", "type_", "calibrate"),
    [
        ("LLM_FILTER('Is it about ducks?', synopsis)", "BOOLEAN", True),
        ("LLM_FILTER('Is it about ducks?', synopsis)", "BOOLEAN", False),
        ("LLM_CLASSIFY(synopsis, ['ducks', 'trains'])", "VARCHAR", True),
        ("LLM_CLASSIFY(synopsis, ['ducks', 'trains'])", "VARCHAR", False),
        ("LLM_SCORE('How sad is it?', synopsis)", "DOUBLE", False),
        ("LLM_EXTRACT(synopsis, {'x': 'INTEGER'}, max_tokens := 20)", "STRUCT", False),
    ],
)
def test_a_server_that_ignores_constraints_gives_the_type_or_null_and_a_record(
    root: str, call: str, type_: str, calibrate: bool
) -> None:
    def asked(_: str, body: Body) -> Body:
        return {name: value for name, value in body.items() if name != "structured_outputs"}

    with (
        forwarding(root, asked=asked) as server,
        connect(server.base_url, calibrate=calibrate) as con,
    ):
        con.execute(f"CREATE TABLE answers AS SELECT {call} AS x FROM films WHERE id < 4")
        [(found, rows, nulls)] = con.execute(
            "SELECT any_value(typeof(x)), count(*), count(*) FILTER (x IS NULL) FROM answers"
        ).fetchall()
        labels = con.execute("SELECT DISTINCT x::VARCHAR FROM answers WHERE x IS NOT NULL")
        said = {label for (label,) in labels.fetchall()}
        causes = con.execute("SELECT DISTINCT cause FROM llm_errors()").fetchall()
    assert found.startswith(type_)
    assert rows == 4
    assert (nulls > 0) == (causes == [("invalid answer",)])
    if type_ == "VARCHAR":
        assert said <= {"ducks", "trains"}


def test_a_server_that_is_away_in_the_middle_is_waited_for(root: str, expected: list[Any]) -> None:
    with forwarding(root) as server, connect(server.base_url, concurrency=4) as con:
        port, done = server.server_address[1], threading.Event()

        def restart() -> None:
            server.shutdown()
            server.server_close()
            server.cut()
            time.sleep(1.5)
            with forwarding(root, port=port):
                done.wait()

        restarting = when_called(server, 10, restart)
        try:
            rows = con.execute(QUESTION).fetchall()
        finally:
            done.set()
            restarting.join()
        cost = last(con)
    assert nearly(rows, expected)
    assert (cost["calls"], cost["failures"]) == (ROWS, 0)


def test_a_server_that_goes_for_good_stops_the_statement_and_keeps_answers(root: str) -> None:
    with (
        forwarding(root) as server,
        connect(server.base_url, concurrency=4, reconnect_timeout=1) as con,
    ):
        port = server.server_address[1]

        def leave() -> None:
            server.shutdown()
            server.server_close()
            server.cut()

        leaving = when_called(server, 20, leave)
        with pytest.raises(ServerUnreachable, match="llm_reconnect_timeout is 1 s"):
            con.execute(QUESTION).fetchall()
        leaving.join()
        with forwarding(root, port=port) as again:
            assert len(con.execute(QUESTION).fetchall()) == ROWS
            assert again.calls < ROWS, "what was answered is not asked again"


def test_another_model_in_the_middle_stops_the_statement_and_keeps_answers(
    root: str, second_server: SecondServer
) -> None:
    with forwarding(root) as server, connect(server.base_url, concurrency=4) as con:

        def swap() -> None:
            server.root = second_server.base_url.removesuffix("/v1")

        swapping = when_called(server, 10, swap)
        with pytest.raises(ModelNotFound, match="no longer serves"):
            con.execute(QUESTION).fetchall()
        swapping.join()
        server.root = root
        before = server.calls
        assert len(con.execute(QUESTION).fetchall()) == ROWS
        assert server.calls - before < ROWS, "what was answered is not asked again"


def test_a_real_restart_in_the_middle_changes_no_row(second_server: SecondServer) -> None:
    with connect(second_server.base_url, reconnect_timeout=300, cache=False) as con:
        con.execute("DELETE FROM films WHERE id >= 12")  # two at a time take it some seconds
        undisturbed = con.execute(QUESTION).fetchall()

        def restart() -> None:
            time.sleep(0.5)
            second_server.stop()
            second_server.start()

        restarting = threading.Thread(target=restart)
        restarting.start()
        rows = con.execute(QUESTION).fetchall()
        restarting.join()
        cost = last(con)
    assert nearly(rows, undisturbed)
    assert (cost["calls"], cost["failures"]) == (12, 0)
    assert cost["seconds"] > 5, "it was away in the middle"


@pytest.mark.parametrize(
    "labels",
    [
        [f"one{' more' * 40}", f"two{' more' * 40}"],
        ["New", "New York", "New Jersey", "Newark"],
        ["положительный", "отрицательный", "负面", "סביר", "😀", "ça va"],
    ],
    ids=["long", "shared", "foreign"],
)
def test_odd_labels_that_a_larger_model_generates_come_back_whole(
    vllm_url: str, labels: list[str]
) -> None:
    listed = ", ".join(f"'{label}'" for label in labels)
    with connect(vllm_url, calibrate=False) as con:
        rows = con.execute(
            f"SELECT LLM_CLASSIFY(title, [{listed}]) FROM films WHERE id < 6"
        ).fetchall()
        errors = con.execute("SELECT message FROM llm_errors()").fetchall()
    assert errors == []
    assert len(rows) == 6
    assert {label for (label,) in rows} <= set(labels)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda url: url.removesuffix("/v1"), ModelNotFound, "usually ends in /v1"),
        (lambda url: url.replace("/v1", "/v2"), ModelNotFound, "usually ends in /v1"),
        (lambda url: url.replace("http:", "https:"), ServerUnreachable, "begins with http://"),
        (lambda url: f"{url}/chat/completions", ModelNotFound, "usually ends in /v1"),
    ],
)
def test_a_wrong_address_says_what_a_right_one_looks_like(
    vllm_url: str, wrong: Callable[[str], str], error: type[Exception], words: str
) -> None:
    with connect(wrong(vllm_url)) as con, pytest.raises(error, match=words):
        con.execute(QUESTION).fetchall()
