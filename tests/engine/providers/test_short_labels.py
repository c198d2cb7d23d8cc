"""A label decided by one token is the label that the whole answer would have been."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quackllm
from quackllm.engine.providers.base import Reply, Request, Usage
from quackllm.engine.providers.short_labels import ShortLabels, begun
from quackllm.errors import InvalidAnswer
from quackllm.testing import FakeServer
from quackllm.udfs.base import Choice

LABELS = st.lists(st.text(min_size=1, max_size=4, alphabet="abé日"), min_size=1, unique=True)


@dataclass
class Constrained:
    """A model that is held to the labels and says one character per token."""

    wanted: str
    asked: list[int] = field(default_factory=list)

    async def send(self, request: Request) -> Reply:
        self.asked.append(request.max_tokens)
        said = self.wanted[: request.max_tokens]
        # The end of an answer is a token too.
        ended = request.max_tokens > len(self.wanted)
        return Reply(said, Usage(10, len(said) + ended, 0), truncated=not ended)


def question(labels: tuple[str, ...]) -> Request:
    return Request("Which?", '{"text": "x"}', Choice(labels), 0.0, 20)


@given(labels=LABELS, data=st.data())
def test_the_answer_is_that_of_the_whole(labels: list[str], data: st.DataObject) -> None:
    model = Constrained(data.draw(st.sampled_from(labels)))
    request = question(tuple(labels))
    whole = asyncio.run(model.send(request))
    short = asyncio.run(ShortLabels(model.send).complete(request, Choice(tuple(labels))))
    assert short.text == whole.text
    assert not short.truncated


def test_one_token_is_asked_for_where_it_decides() -> None:
    model = Constrained("yes")
    reply = asyncio.run(
        ShortLabels(model.send).complete(question(("yes", "no")), Choice(("yes", "no")))
    )
    assert (reply.text, model.asked, reply.usage) == ("yes", [1], Usage(10, 1, 0))


def test_labels_that_begin_alike_are_asked_for_whole_after_the_first() -> None:
    model = Constrained("positive")
    form = Choice(("positive", "poor"))
    short = ShortLabels(model.send)
    first = asyncio.run(short.complete(question(form.labels), form))
    second = asyncio.run(short.complete(question(form.labels), form))
    assert first.text == second.text == "positive"
    assert model.asked == [1, 20, 20]
    assert first.usage == Usage(20, 10, 0), "both replies are paid"


def test_a_label_that_begins_another_is_not_taken_for_it() -> None:
    assert begun("a", ("a", "ab")) is None
    assert begun("ab", ("a", "ab")) == "ab"
    assert begun("", ("a",)) is None
    assert begun("\ufffd", ("日本", "é")) is None


def test_a_model_that_reasons_first_is_given_its_tokens() -> None:
    async def send(request: Request) -> Reply:
        if request.max_tokens == 1:
            raise InvalidAnswer("the model was still reasoning after 1 tokens")
        return Reply("yes", Usage(10, 9, None))

    form = Choice(("yes", "no"))
    reply = asyncio.run(ShortLabels(send).complete(question(form.labels), form))
    assert reply.text == "yes"


@pytest.mark.parametrize(("flavor", "tokens"), [("vllm", 1), ("llama.cpp", 1)])
def test_a_server_that_is_certain_to_hold_labels_is_asked_for_one_token(
    flavor: str, tokens: int
) -> None:
    assert asked_tokens(flavor) == {tokens}


@pytest.mark.parametrize("flavor", ["openai", "ollama", "unconstrained"])
def test_any_other_server_is_asked_for_the_whole_answer(flavor: str) -> None:
    assert min(asked_tokens(flavor)) > 5


def asked_tokens(flavor: str) -> set[int]:
    """Return max_tokens of the requests that a filter sends to a server of this flavor."""
    with FakeServer(flavor=flavor) as server:  # type: ignore[arg-type]
        con = quackllm.connect(base_url=server.base_url, model="fake-model", progress=False)
        con.execute("SELECT LLM_FILTER('Is it odd?', range) FROM range(4)").fetchall()
        con.close()
        bodies = [received.body for received in server.received if received.method == "POST"]
    return {body.get("max_tokens") or body["max_completion_tokens"] for body in bodies}
