"""The public fake server: real HTTP, for whoever tests a client of model servers."""

from __future__ import annotations

import threading

import httpx
import pytest

from quackllm.testing import FakeServer, HttpFault

CHAT = {
    "model": "fake-model",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 5,
}


def post(server: FakeServer, **more: object) -> httpx.Response:
    return httpx.post(server.base_url + "/chat/completions", json={**CHAT, **more}, timeout=5)


def test_it_answers_the_same_every_time_and_remembers_what_it_was_asked() -> None:
    with FakeServer() as server:
        texts = {post(server).json()["choices"][0]["message"]["content"] for _ in range(3)}
        assert len(texts) == 1
        assert server.calls == 3
        assert server.received[-1].body["messages"] == CHAT["messages"]


def test_it_lists_its_models() -> None:
    with FakeServer(flavor="vllm", models=["a", "b"], context_window=512) as server:
        listed = httpx.get(server.base_url + "/models").json()["data"]
    assert [card["id"] for card in listed] == ["a", "b"]
    assert {card["max_model_len"] for card in listed} == {512}


def test_a_prompt_beyond_its_window_is_refused_in_the_words_of_the_server_it_plays() -> None:
    with FakeServer(flavor="llama.cpp", context_window=10) as server:
        refused = post(server, messages=[{"role": "user", "content": "long " * 100}])
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "exceed_context_size_error"


def test_several_requests_may_share_a_connection_and_a_big_one_may_come_in_pieces() -> None:
    with FakeServer(context_window=10**9) as server, httpx.Client() as client:
        for size in (1, 1_000_000, 1):
            body = {**CHAT, "messages": [{"role": "user", "content": "x" * size}]}
            assert client.post(server.base_url + "/chat/completions", json=body).is_success
        assert server.connections == 1


def test_faults_are_injected_by_rule() -> None:
    with FakeServer(faults=[HttpFault.failing(503, after=1, times=1)]) as server:
        assert [post(server).status_code for _ in range(3)] == [200, 503, 200]


def test_unknown_routes_are_404_and_other_protocols_are_cut_off() -> None:
    with FakeServer() as server:
        assert httpx.get(server.base_url + "/nothing").status_code == 404
        with pytest.raises(httpx.TransportError):
            httpx.get(server.base_url.replace("http:", "https:") + "/models")


def test_leaving_it_ends_its_thread_and_its_port() -> None:
    before = threading.active_count()
    server = FakeServer()
    with server:
        post(server)
    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        post(server)
    server.close()
