"""Labels chosen by calibrated log-probabilities: when, what is asked, and when not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Request, Usage
from quackllm.engine.providers.calibrated_labels import CalibratedLabels, is_small
from quackllm.engine.providers.calibration import Distribution
from quackllm.testing import FakeServer, HttpFault
from quackllm.testing.http_faults import error_body
from quackllm.udfs.base import Choice

LABELS = Choice(("yes", "no"))
EMPTY = '{"text":""}'
ROW = Request("Is it?", '{"text":"x"}', LABELS, 0.0, 20, neutral=EMPTY)


@dataclass
class Biased:
    """A model that says yes to everything, a little less when the text is sad."""

    asked: list[str] = field(default_factory=list)
    broken: str | None = None

    async def first_tokens(self, request: Request, form: Choice) -> tuple[Distribution, Usage]:
        self.asked.append(request.fields)
        await asyncio.sleep(0)
        if self.broken is not None:
            return [(" yes", -0.1), (self.broken, -2.0)], Usage(10, 1, 0)
        no = -1.0 if "sad" in request.fields else -3.0
        return [(" yes", -0.1), (" no", no)], Usage(10, 1, 0)


def asked(model: Biased, *requests: Request) -> list[Any]:
    """Answer requests at once, held to their labels."""
    labels = CalibratedLabels(model.first_tokens, held=True)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(labels.complete(each, LABELS) for each in requests))

    return asyncio.run(all_of_them())


def test_the_bias_of_the_prompt_is_taken_off() -> None:
    model = Biased()
    sad, other = asked(model, replace(ROW, fields='{"text":"sad"}'), ROW)
    assert (sad.text, other.text) == ("no", "yes")


def test_rows_in_flight_share_the_question_about_no_row_which_is_paid_once() -> None:
    model = Biased()
    replies = asked(model, *(replace(ROW, fields=f'{{"text":"{n}"}}') for n in range(8)))
    assert model.asked.count(EMPTY) == 1
    assert sum((reply.usage for reply in replies), Usage()).prompt_tokens == 90


def test_a_question_about_no_row_that_failed_is_asked_again() -> None:
    class Failing(Biased):
        async def first_tokens(self, request: Request, form: Choice) -> tuple[Distribution, Usage]:
            found = await super().first_tokens(request, form)
            if len(self.asked) == 1:
                raise ConnectionError
            return found

    model = Failing()
    labels = CalibratedLabels(model.first_tokens, held=True)

    async def twice() -> list[Any]:
        calls = (labels.complete(ROW, LABELS) for _ in range(2))
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second = asyncio.run(twice())
    assert isinstance(first, ConnectionError)
    assert second.text == "yes"
    assert model.asked.count(EMPTY) == 2


@pytest.mark.parametrize(
    "request_",
    [
        replace(ROW, temperature=0.5),
        replace(ROW, neutral=None),
    ],
    ids=["a temperature", "no row to compare with"],
)
def test_other_requests_are_generated(request_: Request) -> None:
    assert asked(Biased(), request_) == [None]


def test_labels_that_begin_alike_are_generated() -> None:
    form = Choice(("billing error", "billing refund"))
    labels = CalibratedLabels(Biased().first_tokens, held=True)
    assert asyncio.run(labels.complete(replace(ROW, answer=form), form)) is None


@pytest.mark.parametrize("broken", ["\ufffd", " x"])
def test_a_label_whose_first_token_cannot_be_read_is_generated(broken: str) -> None:
    model = Biased(broken=broken)
    assert asked(model, ROW, ROW) == [None, None]
    assert model.asked == [EMPTY]


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("smollm2-135m-instruct", True),
        ("Qwen/Qwen3-0.6B", True),
        ('["/models/SmolLM2-360M", null]', True),
        ("llama-3.2-1b", False),
        ("Qwen3-8B-AWQ", False),
        ("mixtral-8x7b", False),
        ("gpt-4o-mini", False),
        ("default", False),
    ],
)
def test_a_name_says_how_large_a_model_is(name: str, small: bool) -> None:
    assert is_small(name) is small
    assert is_small(None, name) is small


# On a server


def classify(server: FakeServer, **settings: Any) -> tuple[list[Any], Connection]:
    con = quackllm.connect(base_url=server.base_url, progress=False, cache=False, **settings)
    rows = con.execute(
        "SELECT LLM_CLASSIFY('text ' || range, ['good', 'bad', 'odd']) FROM range(12)"
    ).fetchall()
    return [row[0] for row in rows], con


def bodies(server: FakeServer) -> list[Any]:
    return [received.body for received in server.received if received.method == "POST"]


def test_a_small_model_on_vllm_is_asked_for_one_opened_token() -> None:
    with FakeServer(flavor="vllm", models=["tiny-100m"]) as server:
        answers, con = classify(server)
        con.close()
        sent = bodies(server)
    assert len(sent) == 13, "twelve rows, and one without content"
    for body in sent:
        assert body["messages"][-1] == {"role": "assistant", "content": "Label:"}
        assert body["continue_final_message"] is True
        assert body["structured_outputs"] == {"choice": [" good", " bad", " odd"]}
        assert body["max_tokens"] == 1
    assert set(answers) <= {"good", "bad", "odd"}
    assert len(set(answers)) > 1


@pytest.mark.parametrize(
    ("flavor", "model", "settings"),
    [
        ("vllm", "tiny-100m", {"calibrate": False}),
        ("vllm", "large-70b", {}),
        ("llama.cpp", "tiny-100m", {"calibrate": True}),
        ("openai", "tiny-100m", {"calibrate": True}),
    ],
)
def test_elsewhere_labels_are_generated(flavor: Any, model: str, settings: dict[str, Any]) -> None:
    with FakeServer(flavor=flavor, models=[model]) as server:
        _, con = classify(server, model=model, **settings)
        con.close()
        assert not any("logprobs" in body for body in bodies(server))


def test_the_setting_decides_for_a_model_of_unknown_size() -> None:
    with FakeServer(flavor="vllm", models=["mine"]) as server:
        _, con = classify(server, calibrate=True)
        con.close()
        assert all("logprobs" in body for body in bodies(server))


def test_a_server_without_log_probabilities_is_asked_for_the_label() -> None:
    said = "Requested sample logprobs of 20, which is greater than max allowed: 5"
    refusal = HttpFault(status=400, body=error_body(said, "BadRequestError", 400), times=1)
    with FakeServer(flavor="vllm", models=["tiny-100m"], faults=[refusal]) as server:
        answers, con = classify(server)
        con.close()
        assert not any("logprobs" in body for body in bodies(server)[2:])
    assert None not in answers


def test_calibrated_answers_are_not_taken_for_generated_ones() -> None:
    with FakeServer(flavor="vllm", models=["tiny-100m"]) as server:
        con = quackllm.connect(base_url=server.base_url, progress=False)
        statement = "SELECT LLM_FILTER('Is it odd?', range) FROM range(4)"
        con.execute(statement).fetchall()
        calls = server.calls
        con.execute("SET llm_calibrate = false")
        con.execute(statement).fetchall()
        con.close()
        assert server.calls == calls + 4
