"""The public fake server: real HTTP, for whoever tests a client of model servers."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from quackllm.testing import FakeServer, HttpFault, every_fault

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


def met(seed: int, order: list[int]) -> dict[tuple[int, int], str]:
    """Ask each question twice, in an order; return what each try met."""
    quick = [fault for fault in every_fault(0.6) if fault.ending != "hang" and not fault.drip]
    seen: dict[tuple[int, int], str] = {}
    with FakeServer(faults=quick, seed=seed, answer=lambda _: "fine") as server:
        for attempt in range(2):
            for number in order:
                messages = [{"role": "user", "content": f"question {number}"}]
                try:
                    response = post(server, messages=messages)
                except httpx.TransportError as error:
                    seen[number, attempt] = type(error).__name__
                else:
                    text = response.text.replace(str(server.base_url), "")
                    seen[number, attempt] = f"{response.status_code} {len(text)}"
    return seen


def test_the_same_seed_makes_the_same_tries_fail_whatever_their_order() -> None:
    first = met(1, list(range(40)))
    assert met(1, list(reversed(range(40)))) == first
    assert met(2, list(range(40))) != first
    assert any(first[number, 0] != first[number, 1] for number in range(40)), "decided anew"


def test_every_kind_of_fault_is_met_about_as_often_as_asked_for() -> None:
    faults = every_fault(0.5)
    share = 1.0
    for fault in faults:
        share *= 1 - fault.rate
    assert share == pytest.approx(0.5)


def test_a_burst_hits_the_first_calls_of_every_period() -> None:
    with FakeServer(faults=[HttpFault.failing(503, burst=(2, 5))]) as server:
        assert [post(server).status_code for _ in range(10)] == [503, 503, 200, 200, 200] * 2


def test_a_rate_limit_is_enforced_and_told() -> None:
    with FakeServer(rate_limit=(2, 0.5)) as server:
        responses = [post(server) for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert responses[0].headers["x-ratelimit-remaining-requests"] == "1"
        assert 0 < float(responses[2].headers["retry-after"]) <= 0.5


def test_a_client_that_leaves_is_counted_and_a_server_can_come_back() -> None:
    with FakeServer(faults=[HttpFault.hanging(times=1)]) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.base_url + "/chat/completions", json=CHAT, timeout=0.2)
        deadline = time.monotonic() + 5
        while not server.abandoned and time.monotonic() < deadline:
            time.sleep(0.01)
        server.close()
        with pytest.raises(httpx.ConnectError):
            post(server)
        server.reopen()
        assert post(server).status_code == 200
    assert server.abandoned == 1
