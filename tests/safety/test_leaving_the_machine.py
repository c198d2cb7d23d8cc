"""What leaves the machine: nothing with llm_offline, and nothing that the hook holds back."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quackllm
from quackllm.engine.providers.config import Address
from quackllm.engine.redaction import redacted_value
from quackllm.errors import NotOnThisMachine
from quackllm.testing import FakeProvider, FakeServer, HttpFault

ELSEWHERE = [
    "https://api.openai.com/v1",
    "http://example.invalid/v1",
    "http://10.0.0.1:8000/v1",
    "http://0.0.0.0:8000/v1",
    "http://[2001:db8::1]/v1",
    "http://127.0.0.1.example.invalid/v1",
    "http://localhost.example.invalid/v1",
    "http://127.0.0.1@example.invalid/v1",
    "http://2130706433/v1",
]
WITHOUT_SCHEME = "localhost:8000/v1"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"a name was looked up or a socket opened: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


# Settings and CREATE MODEL refuse an address without a scheme; the environment is read late.
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("how", "url"),
    [
        *((how, url) for how in ("setting", "model", "environment") for url in ELSEWHERE),
        ("environment", WITHOUT_SCHEME),
    ],
)
def test_offline_asks_no_server_elsewhere_and_looks_no_name_up(url: str, how: str) -> None:
    with quackllm.connect(offline=True, progress=False) as con:
        environ = {"OPENAI_BASE_URL": url} if how == "environment" else {}
        con.llm_engine._environ = {"QUACKLLM_CACHE": ":memory:", **environ}
        if how == "setting":
            con.execute(f"SET llm_base_url = '{url}'")
        if how == "model":
            con.execute(f"CREATE MODEL m (model 'x', base_url '{url}'); SET llm_model = 'm'")
        with pytest.raises(NotOnThisMachine, match="llm_offline is on"):
            con.execute("SELECT LLM('x')")


@pytest.mark.usefixtures("no_network")
def test_offline_refuses_a_key_for_openai_and_a_provider_of_another_machine() -> None:
    with (
        quackllm.connect(offline=True, api_key="sk-123456", progress=False) as con,
        pytest.raises(NotOnThisMachine, match=r"api\.openai\.com"),
    ):
        con.execute("SELECT LLM('x')")

    class Remote(FakeProvider):
        @property
        def endpoint(self) -> str:
            return "https://models.example.invalid/v1"

    with (
        quackllm.connect(provider=Remote(), offline=True, progress=False) as con,
        pytest.raises(NotOnThisMachine),
    ):
        con.execute("SELECT LLM('x')")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_offline_asks_this_machine(host: str) -> None:
    with FakeServer() as server:
        url = server.base_url.replace("127.0.0.1", host)
        with quackllm.connect(offline=True, base_url=url, progress=False) as con:
            assert con.execute("SELECT LLM('x') IS NOT NULL").fetchall() == [(True,)]
    with quackllm.connect(provider=FakeProvider(), offline=True, progress=False) as con:
        con.execute("SELECT LLM('x')")


def test_loopback_is_told_by_the_text() -> None:
    for url in ("http://127.0.0.1/v1", "http://127.9.9.9:1", "http://[::1]:8000/v1",
                "http://LOCALHOST:8000", "http://vllm.localhost/v1"):  # fmt: skip
        assert Address.parse(url).is_loopback, url
    assert not any(Address.parse(url).is_loopback for url in (*ELSEWHERE, WITHOUT_SCHEME))


@pytest.fixture
def listening() -> Iterator[tuple[str, list[str]]]:
    """An address, and who came there: peers of connections."""
    visits: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def note() -> None:
            with suppress(OSError):
                while True:
                    connection, peer = listener.accept()
                    visits.append(str(peer))
                    connection.close()

        thread = threading.Thread(target=note)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", visits
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_proxy_of_the_environment_does_not_get_what_is_for_this_machine(
    listening: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, visits = listening
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with FakeServer() as server, quackllm.connect(base_url=server.base_url) as con:
        con.execute("SET llm_progress = false; SELECT LLM('x')")
        assert server.calls == 1
    assert visits == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_server_cannot_send_texts_on_to_another_one(
    listening: tuple[str, list[str]], status: int
) -> None:
    other, visits = listening
    fault = HttpFault(status=status, body="{}", headers=(("location", f"{other}/v1/steal"),))
    with (
        FakeServer(faults=[fault]) as server,
        quackllm.connect(base_url=server.base_url, progress=False, max_retries=0) as con,
    ):
        assert con.execute("SELECT LLM('x', 'private')").fetchall() == [(None,)]
        assert con.execute("SELECT cause FROM llm_errors()").fetchall() == [("server error",)]
    assert visits == []


# The hook


def without_digits(text: str) -> str:
    return re.sub(r"\d{4,}", "[number]", text)


def test_a_model_sees_only_what_the_hook_returns() -> None:
    with FakeServer() as server:
        with quackllm.connect(
            base_url=server.base_url, progress=False, redact=without_digits
        ) as con:
            con.execute(
                "CREATE TABLE t AS SELECT 'call 5551234' AS a, 4111111111111111 AS b, "
                "{'deep': ['x 99999', 'y'], 'n': 12345.5} AS c, MAP {'k 77777': 1} AS d, NULL AS e"
            )
            for sql in ("SELECT LLM('x', t.*) FROM t",
                        "SELECT list_transform([a], v -> LLM('y', v)) FROM t"):  # fmt: skip
                con.execute(sql)
            con.execute("SELECT LLM(a, b) FROM t WHERE LLM_FILTER('z', c)")
        sent = [str(received.body) for received in server.received if received.body]
        assert len(sent) >= 3
        assert not any(re.search(r"5551234|4111|99999|77777|12345", body) for body in sent)
        assert any('"a":"call [number]"' in body for body in sent)
        assert any('"b":"[number]"' in body for body in sent)


def test_rows_that_differ_in_what_is_redacted_are_one_question() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False, redact=without_digits) as con:
        sql = "SELECT LLM('x', v) FROM (SELECT 'caller ' || (10000 + i) AS v FROM range(50) r(i))"
        rows = con.execute(sql).fetchall()
        assert len(rows) == 50 and len(set(rows)) == 1
        assert fake.calls == 1
        con.execute(f"EXPLAIN {sql}")
        con.execute(sql)
        assert fake.calls == 1


def test_what_is_recorded_of_a_failure_is_redacted_too() -> None:
    def fail(_: object) -> str:
        return "not a number"

    with quackllm.connect(
        provider=FakeProvider(answer=fail), progress=False, redact=without_digits
    ) as con:
        con.execute("SELECT LLM_SCORE('x', 'card 41111111')")
        assert (
            con.execute("SELECT preview FROM llm_errors()")
            .fetchall()[0][0]
            .endswith('"card [number]"}')
        )


@pytest.mark.parametrize("call", ["LLM('x', v)", "list_transform([v], v -> LLM('x', v))"])
def test_a_hook_that_fails_stops_the_statement_before_anything_is_sent(call: str) -> None:
    def broken(text: str) -> str:
        raise LookupError("no dictionary")

    fake = FakeProvider()
    wrong: Any = lambda _: 1  # noqa: E731
    for hook, words in ((broken, "no dictionary"), (wrong, "not a text")):
        with (
            quackllm.connect(provider=fake, progress=False, redact=hook) as con,
            pytest.raises((LookupError, duckdb.Error), match=words),
        ):
            con.execute(f"SELECT {call} FROM (SELECT 'a' AS v)")
    assert fake.calls == 0


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(document=DOCUMENTS)
def test_a_hook_sees_every_text_and_number_and_leaves_the_form(document: Any) -> None:
    seen: list[str] = []

    def note(text: str) -> str:
        seen.append(text)
        return text

    written = json.dumps(document, ensure_ascii=False)
    assert redacted_value(note, written) == written
    assert sorted(seen) == sorted(_leaves(document))
    hidden = json.loads(redacted_value(lambda _: "*", written))
    assert set(_leaves(hidden)) <= {"*"}


def _leaves(document: Any) -> list[str]:
    if isinstance(document, bool) or document is None:
        return []
    if isinstance(document, dict):
        return [leaf for key, value in document.items() for leaf in (key, *_leaves(value))]
    if isinstance(document, list):
        return [leaf for item in document for leaf in _leaves(item)]
    return [str(document)]
