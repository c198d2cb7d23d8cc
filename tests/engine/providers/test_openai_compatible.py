"""The OpenAI-compatible provider against a real local server that fails like real ones."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import socket
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from quackllm.engine.dispatch import dispatch
from quackllm.engine.providers.base import Reply, Request, Usage
from quackllm.engine.providers.config import ProviderConfig, Secret
from quackllm.engine.providers.openai_compatible import OpenAICompatible, open_openai_compatible
from quackllm.engine.traffic.endpoint import Endpoint, Limits
from quackllm.errors import (
    AuthenticationFailed,
    CallTimedOut,
    ContextWindowExceeded,
    InvalidAnswer,
    ModelNotFound,
    QuackLLMError,
    RequestRefused,
    ServerFailed,
    ServerUnreachable,
)
from quackllm.testing import FakeServer, HttpFault, deterministic_answer
from quackllm.testing.http_faults import error_body
from quackllm.udfs.base import AnswerForm, Choice, FreeText, JsonAnswer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEY = "sk-quack-1234567890"
SCHEMA = JsonAnswer(
    json.dumps(
        {
            "type": "object",
            "properties": {"price": {"type": ["number", "null"]}},
            "required": ["price"],
            "additionalProperties": False,
        }
    )
)
TRICKY = ('say "hi"', "back\\slash", "two\nlines", "ナマズ 🐟", "tab\there")


def ask(form: AnswerForm | None = None, fields: str = '{"text": "a fine film"}') -> Request:
    return Request("Is it good?", fields, form or Choice(("yes", "no")), 0.0, 8)


def using(
    server: FakeServer, action: Callable[[OpenAICompatible], Awaitable[Any]], **config: Any
) -> Any:
    """Open a provider, run the action with it, close it."""

    async def main() -> Any:
        told = {"base_url": server.base_url, "timeout": 10.0, **config}
        provider = await open_openai_compatible(ProviderConfig(**told))
        try:
            return await action(provider)
        finally:
            await provider.aclose()

    return asyncio.run(main())


def answer(server: FakeServer, request: Request, **config: Any) -> Reply:
    reply = using(server, lambda provider: provider.complete(request), **config)
    assert isinstance(reply, Reply)
    return reply


def failure(fault: HttpFault, **config: Any) -> QuackLLMError:
    with FakeServer(faults=[fault]) as server, pytest.raises(QuackLLMError) as caught:
        answer(server, ask(), **config)
    return caught.value


def answer_with_retries(server: FakeServer, max_retries: int = 1, **config: Any) -> Reply:
    """Answer one request as the engine does, with more tries where they help."""

    async def call(provider: OpenAICompatible) -> Reply:
        endpoint = Endpoint(4)
        turn = await endpoint.acquire()
        try:
            return await endpoint.complete(provider, ask(), Limits(max_retries), turn)
        finally:
            turn.release()

    reply = using(server, call, **config)
    assert isinstance(reply, Reply)
    return reply


# What is sent and what comes back


def test_the_instruction_is_the_system_message_and_the_row_the_user_message() -> None:
    with FakeServer() as server:
        reply = answer(server, ask(), api_key=Secret(KEY))
        sent = server.received[-1]
    assert sent.body["messages"] == [
        {"role": "system", "content": "Is it good?"},
        {"role": "user", "content": '{"text": "a fine film"}'},
    ]
    assert sent.body["temperature"] == 0.0
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.cached_tokens == 0
    assert not reply.truncated


@pytest.mark.parametrize("flavor", ["openai", "vllm", "llama.cpp", "ollama"])
@pytest.mark.parametrize("form", [Choice(TRICKY), SCHEMA], ids=["choice", "json"])
def test_every_kind_of_server_is_held_to_the_answer_form(flavor: Any, form: AnswerForm) -> None:
    with FakeServer(flavor=flavor) as server:
        texts = [answer(server, ask(form, f'{{"n": {n}}}')).text for n in range(4)]
    for text in texts:
        if isinstance(form, Choice):
            assert text in TRICKY
        else:
            assert set(json.loads(text)) == {"price"}


def test_a_label_is_sent_to_vllm_as_a_choice_and_never_as_the_ignored_guided_choice() -> None:
    with FakeServer(flavor="vllm") as server:
        reply = answer(server, ask())
        body = server.received[-1].body
    assert reply.text == deterministic_answer(ask())
    assert body["structured_outputs"] == {"choice": ["yes", "no"]}
    assert "guided_choice" not in body


def test_free_text_is_not_constrained() -> None:
    with FakeServer() as server:
        reply = answer(server, ask(FreeText()))
        assert "response_format" not in server.received[-1].body
    assert reply.text.startswith("answer ")


def test_a_server_that_knows_no_constraints_is_asked_without_and_the_person_told_once() -> None:
    told: list[str] = []
    with FakeServer(flavor="unconstrained", answer=lambda _: "yes") as server:

        async def twice(provider: OpenAICompatible) -> None:
            await asyncio.gather(*(provider.complete(ask()) for _ in range(5)))
            assert (await provider.complete(ask())).text == "yes"

        using(server, twice, notify=told.append)
        assert "response_format" not in server.received[-1].body
    assert len(told) == 1
    assert "does not hold answers" in told[0]


@pytest.mark.parametrize("name", ["temperature", "max_tokens"])
def test_what_a_hosted_model_does_not_take_is_left_out_or_renamed(name: str) -> None:
    said = "Unsupported value: 'temperature' does not support 0 with this model."
    if name == "max_tokens":
        said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    refusal = HttpFault(status=400, body=error_body(said, "invalid_request_error", None), times=1)
    with FakeServer(flavor="vllm", faults=[refusal]) as server:
        answer(server, ask())
        assert name not in server.received[-1].body


def test_a_leading_think_block_is_no_part_of_the_answer() -> None:
    with FakeServer(answer=lambda _: "<think>\nhm, <b>\n</think>\n\nparis") as server:
        assert answer(server, ask(FreeText())).text == "paris"


def test_an_answer_cut_off_at_max_tokens_says_so() -> None:
    with FakeServer(answer=lambda _: Reply("once upon a", Usage(5, 8), truncated=True)) as server:
        assert answer(server, ask(FreeText())).truncated


def test_a_model_that_only_reasoned_gave_no_answer() -> None:
    only_thought = Reply("<think>well", truncated=True)
    with (
        FakeServer(answer=lambda _: only_thought) as server,
        pytest.raises(InvalidAnswer, match="raise max_tokens"),
    ):
        answer(server, ask(FreeText()))


# Which server and which model


@pytest.mark.parametrize(
    ("flavor", "model", "row_first", "kept"),
    [
        ("vllm", "qwen3-8b", True, None),
        ("vllm", "qwen3-0.6b", False, None),
        ("openai", "gpt-mini", True, None),
        ("llama.cpp", "qwen3-8b", False, 16),
        ("ollama", "qwen3:8b", False, 4),
        ("unconstrained", "qwen3-8b", False, None),
    ],
)
def test_rows_go_first_where_the_model_is_not_small_and_the_server_keeps_them(
    flavor: Any, model: str, row_first: bool, kept: int | None
) -> None:
    async def look(provider: OpenAICompatible) -> None:
        assert provider.capabilities.row_first == row_first
        assert provider.capabilities.kept_prompts == kept

    with FakeServer(flavor=flavor, models=[model]) as server:
        using(server, look)


@pytest.mark.parametrize(
    ("flavor", "window", "granularity"),
    [("vllm", 4096, None), ("llama.cpp", 4096, 1), ("ollama", None, 1), ("openai", None, 128)],
)
def test_the_server_is_recognised_and_its_limits_are_known(
    flavor: Any, window: int | None, granularity: int | None
) -> None:
    async def look(provider: OpenAICompatible) -> None:
        assert provider.capabilities.context_window == window
        assert provider.capabilities.prefix_granularity == granularity
        assert provider.model == "m1"

    with FakeServer(flavor=flavor, models=["m1"], context_window=4096) as server:
        using(server, look)


def test_without_a_model_name_several_served_models_are_an_error_that_lists_them() -> None:
    with FakeServer(models=["a", "b"]) as server:
        with pytest.raises(ModelNotFound, match="'a', 'b'"):
            answer(server, ask())
        assert server.connections == 0


def test_a_model_that_is_not_served_is_an_error_that_lists_those_that_are() -> None:
    with (
        FakeServer(models=["qwen3-8b"]) as server,
        pytest.raises(ModelNotFound, match="no model 'gpt'; it serves: 'qwen3-8b'"),
    ):
        answer(server, ask(), model="gpt")


# Failures of one call


@pytest.mark.parametrize("server", ["openai", "vllm", "llama.cpp"])
def test_a_prompt_longer_than_the_window_fails_its_row(server: Any) -> None:
    assert isinstance(failure(HttpFault.context_exceeded(server)), ContextWindowExceeded)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (HttpFault.failing(500, "out of memory"), ServerFailed, "HTTP 500.*out of memory"),
        (HttpFault.failing(503), ServerFailed, "HTTP 503"),
        (HttpFault.failing(400, "odd value in field x"), ServerFailed, "refused.*odd value"),
        (HttpFault.rate_limited(), ServerFailed, "HTTP 429"),
        (HttpFault.reset(), ServerFailed, "no connection"),
        (HttpFault.truncated_json(), ServerFailed, "broken JSON"),
        (HttpFault.wrong_shape(), ServerFailed, "no completion"),
        (HttpFault.no_choices(), InvalidAnswer, "empty list of choices"),
        (HttpFault.refusal(), InvalidAnswer, "refused: I cannot help"),
    ],
)
def test_each_failure_of_a_call_has_its_cause(fault: HttpFault, kind: type, words: str) -> None:
    error = failure(fault)
    assert type(error) is kind
    assert re.search(words, str(error)), str(error)


def test_a_server_that_does_not_answer_in_time_fails_the_row() -> None:
    began = time.monotonic()
    assert isinstance(failure(HttpFault.hanging(), timeout=0.3), CallTimedOut)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "fault",
    [HttpFault.failing(500, times=1), HttpFault.reset(times=1), HttpFault.rate_limited(times=1)],
    ids=["500", "reset", "429"],
)
def test_what_a_retry_can_help_is_retried(fault: HttpFault) -> None:
    with FakeServer(faults=[fault]) as server:
        reply = answer_with_retries(server)
        assert reply.text in ("yes", "no")
        assert (server.calls, reply.attempts) == (2, 2)


def test_the_pause_that_a_rate_limit_names_is_kept() -> None:
    with FakeServer(faults=[HttpFault.rate_limited(retry_after=1, times=1)]) as server:
        began = time.monotonic()
        answer_with_retries(server)
    assert time.monotonic() - began >= 1


# Failures that stop a statement


def test_an_address_where_nothing_listens_is_an_error_with_address_and_hint() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(ServerUnreachable, match=r"nothing listens at .*/v1.*llm_base_url"):
            asyncio.run(open_openai_compatible(ProviderConfig(base_url=url)))


def test_a_host_name_that_does_not_resolve_is_said() -> None:
    config = ProviderConfig(base_url="http://no-such-host.invalid/v1")
    with pytest.raises(ServerUnreachable, match=r"no-such-host.invalid"):
        asyncio.run(open_openai_compatible(config))


def test_tls_against_a_plain_server_is_said() -> None:
    with FakeServer() as server:
        config = ProviderConfig(base_url=server.base_url.replace("http:", "https:"), timeout=3)
        with pytest.raises(ServerUnreachable, match="https"):
            asyncio.run(open_openai_compatible(config))


def test_a_wrong_key_stops_the_statement_at_once() -> None:
    with FakeServer(api_key="right") as server:
        with pytest.raises(AuthenticationFailed, match="llm_api_key"):
            answer(server, ask(), api_key=Secret(KEY))
        assert server.calls == 0


def test_an_exhausted_quota_stops_the_statement() -> None:
    body = error_body("You exceeded your current quota", "insufficient_quota", "insufficient_quota")
    assert isinstance(failure(HttpFault(status=429, body=body)), RequestRefused)


def outcomes(server: FakeServer, count: int, **config: Any) -> list[type | str]:
    """Ask one after the other; the class of each error, or the text."""

    async def one_by_one(provider: OpenAICompatible) -> list[type | str]:
        seen: list[type | str] = []
        for number in range(count):
            try:
                seen.append((await provider.complete(ask(fields=f'{{"n": {number}}}'))).text)
            except QuackLLMError as error:
                seen.append(type(error))
        return seen

    found: list[type | str] = using(server, one_by_one, **config)
    return found


def test_a_row_that_breaks_its_connection_does_not_stop_the_others() -> None:
    with FakeServer(faults=[HttpFault.reset(containing='"n": 2')]) as server:
        found = outcomes(server, 6)
    assert [kind for kind in found if not isinstance(kind, str)] == [ServerFailed]


def test_a_server_that_refuses_every_request_stops_the_statement() -> None:
    with FakeServer(faults=[HttpFault.failing(400, "no chat template")]) as server:
        assert outcomes(server, 3) == [ServerFailed, ServerFailed, RequestRefused]


def test_after_an_answer_a_refused_request_is_about_its_row() -> None:
    with FakeServer(faults=[HttpFault.failing(400, "odd", after=1)]) as server:
        assert outcomes(server, 6)[1:] == [ServerFailed] * 5


# Secrets and leaks


def test_the_key_is_in_no_error_log_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = error_body(f"Incorrect API key provided: {KEY}", "invalid_request_error", None)
    seen: list[str] = []
    faults = [HttpFault(status=status, body=echo, times=1) for status in (401, 404, 400, 500)]
    with FakeServer(faults=faults) as server:

        async def every_way(provider: OpenAICompatible) -> None:
            seen.extend((repr(provider), provider.endpoint, repr(provider.capabilities)))
            for _ in faults:
                with pytest.raises(QuackLLMError) as caught:
                    await provider.complete(ask())
                seen.append("".join(traceback.format_exception(caught.value)))
                seen.append(repr(caught.value.__context__))

        config: dict[str, Any] = {"api_key": Secret(KEY), "notify": seen.append}
        using(server, every_way, **config)
    with FakeServer(api_key="right") as server, pytest.raises(AuthenticationFailed) as refused:
        answer(server, ask(), **config)
    seen += ["".join(traceback.format_exception(refused.value)), caplog.text]
    seen.append(repr(ProviderConfig(**config)))
    assert any("***" in text for text in seen)
    assert not any(KEY in text for text in seen)


def test_credentials_in_the_address_are_sent_and_not_shown() -> None:
    async def look(provider: OpenAICompatible) -> str:
        await provider.complete(ask())
        return provider.endpoint + repr(provider)

    with FakeServer() as server:
        url = server.base_url.replace("http://", "http://user:hidden@")
        assert "hidden" not in using(server, look, base_url=url)
        sent = server.received[-1].headers["authorization"]
    assert sent == "Basic " + base64.b64encode(b"user:hidden").decode()


def test_closing_leaves_no_connection_and_no_thread() -> None:
    before = threading.active_count()
    with FakeServer(latency=0.01) as server:

        async def many(provider: OpenAICompatible) -> None:
            await asyncio.gather(*(provider.complete(ask()) for _ in range(20)))
            assert server.connections > 1

        using(server, many)
        deadline = time.monotonic() + 2
        while server.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.connections == 0
    assert threading.active_count() <= before


def test_a_statement_that_stops_sends_nothing_more_and_leaves_nothing_open() -> None:
    refused = HttpFault.failing(401, "the key was withdrawn", after=30)
    delivered: list[int] = []
    with FakeServer(faults=[refused], latency=0.005) as server:

        async def many(provider: OpenAICompatible) -> None:
            with pytest.raises(AuthenticationFailed, match="withdrawn"):
                await dispatch(
                    provider,
                    ((number, ask(fields=f'{{"n": {number}}}')) for number in range(10_000)),
                    endpoint=Endpoint(8),
                    deliver=lambda index, _: delivered.append(index),
                )

        using(server, many)
        assert 23 <= len(delivered) <= 30
        assert server.calls <= 30 + 2 * 8


def test_a_cancelled_call_gives_its_connection_back() -> None:
    with FakeServer(faults=[HttpFault.hanging(times=3)]) as server:

        async def cancel(provider: OpenAICompatible) -> None:
            calls = [asyncio.create_task(provider.complete(ask())) for _ in range(3)]
            await asyncio.sleep(0.1)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert (await provider.complete(ask())).text in ("yes", "no")

        using(server, cancel, concurrency=1)
