"""A server is asked again what it serves where a reply leaves a doubt, and only there."""

from __future__ import annotations

import asyncio

import pytest

from quackllm.engine.providers.same_model import LONGEST_PAUSE, SameModel
from quackllm.errors import ModelReplaced


class Server:
    """Says what it serves, and counts how often it was asked."""

    def __init__(self) -> None:
        self.revision: str | None = "a"
        self.asked = 0
        self.now = 0.0

    async def ask(self) -> str | None:
        self.asked += 1
        await asyncio.sleep(0)
        return self.revision

    def watched(self) -> SameModel:
        return SameModel("'m' at x", "a", self.ask, clock=lambda: self.now)


def confirm(same: SameModel, *fingerprints: str | None) -> list[BaseException | None]:
    """Look at replies that come at once; return what each raises."""

    async def run() -> list[BaseException | None]:
        every = (same.confirm(each) for each in fingerprints)
        return await asyncio.gather(*every, return_exceptions=True)

    return asyncio.run(run())


def test_replies_in_a_row_with_one_fingerprint_ask_nothing() -> None:
    server = Server()
    same = server.watched()
    for _ in range(100):
        server.now += LONGEST_PAUSE / 2
        assert confirm(same, "v1", None) == [None, None]
    assert server.asked == 0


@pytest.mark.parametrize("way", ["pause", "fingerprint"])
def test_a_doubt_is_settled_by_one_question_for_all_replies(way: str) -> None:
    server = Server()
    same = server.watched()
    confirm(same, "v1")
    if way == "pause":
        server.now += 2 * LONGEST_PAUSE
    came = "v1" if way == "pause" else "v2"
    assert confirm(same, came, came, came) == [None] * 3
    assert confirm(same, "v1", came) == [None, None]
    assert server.asked == 1


@pytest.mark.parametrize("way", ["pause", "fingerprint"])
def test_no_reply_of_another_model_passes(way: str) -> None:
    server = Server()
    same = server.watched()
    confirm(same, "v1")
    server.revision = "b"
    server.now += 2 * LONGEST_PAUSE if way == "pause" else 0
    came = "v1" if way == "pause" else "v2"
    assert [type(each) for each in confirm(same, came, came, came)] == [ModelReplaced] * 3
    assert same.replaced
    assert [type(each) for each in confirm(same, "v1")] == [ModelReplaced], "not later either"
    assert server.asked == 1


def test_a_server_that_does_not_say_is_believed() -> None:
    server = Server()
    same = server.watched()
    server.revision = None
    server.now += 2 * LONGEST_PAUSE
    assert confirm(same, "v1") == [None]
    assert not same.replaced
