"""Requests carry what APIs with a minimum prefix or explicit marks need to reuse it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import quackllm
from quackllm.testing import FakeServer, HttpFault

STATEMENT = "SELECT id FROM t WHERE LLM_FILTER('good?', synopsis, review) ORDER BY id"


def bodies(server: FakeServer, statement: str = STATEMENT, **settings: Any) -> list[Any]:
    told: dict[str, Any] = {"cache_path": ":memory:", "progress": False, **settings}
    with quackllm.connect(base_url=server.base_url, **told) as con:
        con.execute(
            "CREATE TABLE t AS SELECT i AS id, 'Film ' || (i % 3) || repeat(' story', 1000) "
            "AS synopsis, 'review ' || i AS review FROM range(12) r(i)"
        )
        con.execute(statement).fetchall()
    return [request.body for request in server.received if "messages" in request.body]


def text(content: str | list[Mapping[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def test_openai_gets_a_cache_key_per_prefix_group() -> None:
    with FakeServer(flavor="openai") as server:
        sent = bodies(server)
    films = {text(body["messages"][1]["content"])[:22]: body["prompt_cache_key"] for body in sent}
    assert len(sent) == 12
    assert len(films) == len(set(films.values())) == len({b["prompt_cache_key"] for b in sent}) == 3


def test_the_cache_key_of_a_prefix_is_the_same_in_another_session() -> None:
    with FakeServer(flavor="openai") as server:
        first = {body["prompt_cache_key"] for body in bodies(server)}
        assert {body["prompt_cache_key"] for body in bodies(server)} == first


@pytest.mark.parametrize("flavor", ["vllm", "llama.cpp", "ollama"])
def test_other_servers_get_none(flavor: Any) -> None:
    with FakeServer(flavor=flavor) as server:
        assert not any("prompt_cache_key" in body for body in bodies(server))


def test_a_server_that_refuses_the_cache_key_is_not_sent_it_again() -> None:
    refusal = HttpFault.failing(400, "Unknown parameter: 'prompt_cache_key'", times=1)
    with FakeServer(flavor="openai", faults=[refusal]) as server:
        sent = bodies(server, concurrency=1)
    assert ["prompt_cache_key" in body for body in sent] == [True] + [False] * 12


def test_marks_stand_where_the_instruction_and_the_shared_part_of_the_row_end() -> None:
    with FakeServer(flavor="ollama") as server:
        plain = bodies(server)
        server.received.clear()
        marked = bodies(server, cache_marks=True)
    by_text = {text(body["messages"][1]["content"]) for body in plain}
    assert {text(body["messages"][1]["content"]) for body in marked} == by_text
    for body in marked:
        system, user = (message["content"] for message in body["messages"])
        assert [part.get("cache_control") for part in system] == [{"type": "ephemeral"}]
        assert [part.get("cache_control") for part in user] == [{"type": "ephemeral"}, None]
        assert user[0]["text"].endswith('story"')


def test_a_row_of_its_own_has_a_mark_after_the_instruction_only() -> None:
    statement = "SELECT LLM_FILTER('good?', 'x', 'y')"
    with FakeServer(flavor="ollama") as server:
        [body] = bodies(server, statement, cache_marks=True)
    system, user = (message["content"] for message in body["messages"])
    assert len(system) == 1
    assert isinstance(user, str)
