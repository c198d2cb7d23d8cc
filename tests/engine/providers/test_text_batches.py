"""Texts of calls in flight are put together, and each gets the vector that is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.base import Reply, Usage
from quackllm.engine.providers.text_batches import TextBatches, shared_usage, text_of
from quackllm.errors import ContextWindowExceeded, RequestRefused, ServerFailed, Trouble


class Recorder:
    """Answers a text with itself; fails as told."""

    def __init__(self, bad: frozenset[str] = frozenset(), error: Exception | None = None) -> None:
        self.sent: list[tuple[int, ...]] = []
        self.cancelled = 0
        self.hangs = False
        self._bad = bad
        self._error = error

    async def send(self, texts: Sequence[str], dimensions: int) -> list[Reply]:
        self.sent.append((dimensions, len(texts)))
        try:
            await asyncio.sleep(3600 if self.hangs else 0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error is not None and self._bad & set(texts):
            raise self._error
        return [Reply(f"{text}/{dimensions}") for text in texts]


async def ask(batches: TextBatches, texts: Sequence[str], dimensions: int = 3) -> list[object]:
    calls = [batches.embed(text, dimensions) for text in texts]
    return list(await asyncio.gather(*calls, return_exceptions=True))


@given(st.lists(st.text(), max_size=50), st.integers(1, 9))
def test_each_text_gets_its_own_reply_in_the_fewest_requests(texts: list[str], most: int) -> None:
    recorder = Recorder()
    replies = asyncio.run(ask(TextBatches(recorder.send, most), texts))
    assert replies == [Reply(f"{text}/3") for text in texts]
    assert len(recorder.sent) == -(-len(texts) // most)


def test_vectors_of_other_lengths_are_other_requests() -> None:
    async def both() -> list[object]:
        batches = TextBatches(recorder.send, 10)
        found = await asyncio.gather(ask(batches, ["a", "b"], 3), ask(batches, ["a"], 4))
        return [*found[0], *found[1]]

    recorder = Recorder()
    assert [reply.text for reply in asyncio.run(both()) if isinstance(reply, Reply)] == [
        "a/3",
        "b/3",
        "a/4",
    ]
    assert sorted(recorder.sent) == [(3, 2), (4, 1)]


@given(st.sets(st.integers(0, 30), max_size=4))
def test_what_a_text_does_wrong_befalls_that_text_alone(bad: set[int]) -> None:
    texts = [str(number) for number in range(31)]
    wrong = frozenset(map(str, bad))
    recorder = Recorder(wrong, ContextWindowExceeded("too long", status=400))
    replies = asyncio.run(ask(TextBatches(recorder.send, 31), texts))
    for text, reply in zip(texts, replies, strict=True):
        if text in wrong:
            assert isinstance(reply, ContextWindowExceeded)
            assert reply.status == 400
        else:
            assert reply == Reply(f"{text}/3")
    errors = [id(reply) for reply in replies if isinstance(reply, Exception)]
    assert len(set(errors)) == len(errors), "each row has an error of its own to note things in"


def test_a_failure_that_may_pass_is_that_of_all_and_is_not_sent_in_halves() -> None:
    recorder = Recorder(frozenset("a"), ServerFailed("503", trouble=Trouble.OVERLOADED))
    replies = asyncio.run(ask(TextBatches(recorder.send, 4), ["a", "b", "c", "d"]))
    assert [type(reply) for reply in replies] == [ServerFailed] * 4
    assert recorder.sent == [(3, 4)]


@pytest.mark.parametrize("error", [RequestRefused("no"), ZeroDivisionError("a bug")])
def test_what_stops_the_statement_reaches_everybody(error: Exception) -> None:
    recorder = Recorder(frozenset("a"), error)
    replies = asyncio.run(ask(TextBatches(recorder.send, 4), ["a", "b"]))
    assert replies == [error, error]


def test_a_request_ends_when_nobody_waits_for_it_any_more() -> None:
    async def give_up() -> None:
        batches = TextBatches(recorder.send, 2)
        calls = [asyncio.create_task(batches.embed(text, 3)) for text in "ab"]
        await asyncio.sleep(0.01)
        calls[0].cancel()
        await asyncio.sleep(0.01)
        assert recorder.cancelled == 0, "one still waits"
        calls[1].cancel()
        await asyncio.sleep(0.01)

    recorder = Recorder()
    recorder.hangs = True
    asyncio.run(give_up())
    assert recorder.cancelled == 1


@given(st.integers(0, 10_000), st.lists(st.text(max_size=50), min_size=1, max_size=20))
def test_the_tokens_of_a_request_are_divided_without_rest(tokens: int, texts: list[str]) -> None:
    shares = shared_usage(Usage(prompt_tokens=tokens), texts)
    assert sum(share.prompt_tokens for share in shares) == tokens
    assert all(share.prompt_tokens >= 0 for share in shares)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ('{"a": "plain"}', "plain"),
        ('{"a": 4.5}', "4.5"),
        ('{"a": ["x", "é"]}', '["x", "é"]'),
        ('{"title": "T", "body": "B"}', "body: B\ntitle: T"),
    ],
)
def test_the_text_of_a_row(fields: str, text: str) -> None:
    assert text_of(fields) == text
