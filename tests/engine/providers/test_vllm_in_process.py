"""vLLM in this process, its engine replaced by a stub: choice, answers, faults, sharing."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Request
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.inference import Prompt
from quackllm.engine.providers.registry import Providers, choose
from quackllm.engine.providers.vllm_engine import load_vllm
from quackllm.engine.providers.vllm_in_process import InProcessVLLM, open_vllm
from quackllm.engine.settings import settings_from
from quackllm.errors import (
    CallTimedOut,
    ContextWindowExceeded,
    InvalidAnswer,
    ModelNotFound,
    NotOnThisMachine,
    ProviderError,
    ServerFailed,
    SettingError,
)
from quackllm.udfs.base import AnswerForm, Choice, FreeText, JsonAnswer
from tests.engine.stub_engine import StubEngine, StubLoader

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """A directory that looks like a model of a usual size."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return str(tmp_path)


def request(form: AnswerForm, text: str = "hello", **changed: Any) -> Request:
    asked = Request("Reply.", json.dumps({"text": text}), form, 0.0, 24)
    return replace(asked, **changed)


def answers(stub: StubEngine, config: ProviderConfig, *requests: Request) -> list[Any]:
    """What each request is answered, or the error that it raises."""

    async def main() -> list[Any]:
        provider = await open_vllm(config, load=lambda *_: stub)
        try:
            asked = (provider.complete(one) for one in requests)
            return list(await asyncio.gather(*asked, return_exceptions=True))
        finally:
            await provider.aclose()
            await provider.aclose()

    return asyncio.run(main())


@contextmanager
def connection(loader: StubLoader, **settings: Any) -> Iterator[Connection]:
    """A connection whose vLLM is a stub."""
    providers = Providers({"vllm": lambda: partial(open_vllm, load=loader)})
    told = {"progress": False, "cache_path": ":memory:", **settings}
    engine = Engine(providers=providers, environ={})
    with Connection(duckdb.connect(), engine, settings_from(told)) as con:
        yield con


# Which model


def test_a_directory_of_a_model_is_taken_where_no_server_is_set(directory: str) -> None:
    assert choose(ProviderConfig(model=directory), {}) == "vllm"
    assert choose(ProviderConfig(model=directory, base_url="http://here/v1"), {}) == "openai"
    assert choose(ProviderConfig(model=directory), {"OPENAI_API_KEY": "sk"}) == "openai"
    with pytest.raises(ModelNotFound, match="a directory that vLLM can load"):
        choose(ProviderConfig(model=directory + "/elsewhere"), {})


def test_embeddings_are_made_by_others() -> None:
    assert choose(ProviderConfig(provider="vllm", embeds=True), {}) == "embedded_embeddings"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "needs a model: SET llm_model"),
        ("/nowhere/qwen3", "there is no model directory '/nowhere/qwen3'"),
        (__file__, "no config.json"),
    ],
)
def test_what_cannot_be_a_model_is_refused_before_anything_is_loaded(
    model: str | None, said: str
) -> None:
    loader = StubLoader()
    with pytest.raises(ModelNotFound, match=said):
        asyncio.run(open_vllm(ProviderConfig(provider="vllm", model=model), load=loader))
    assert loader.asked == []


def test_offline_loads_a_directory_and_fetches_nothing(directory: str) -> None:
    loader = StubLoader()
    with connection(loader, provider="vllm", offline=True) as con:
        con.execute(f"SET llm_model = '{directory}'")
        assert con.execute("SELECT LLM('say', 'x') IS NOT NULL").fetchall() == [(True,)]
        con.execute("SET llm_model = 'Qwen/Qwen3-8B'")
        with pytest.raises(NotOnThisMachine, match="would fetch the model 'Qwen/Qwen3-8B'"):
            con.execute("SELECT LLM('say', 'x')")
    assert [model for model, _ in loader.asked] == [directory]


def test_without_vllm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, Any] = sys.modules
    monkeypatch.setitem(modules, "vllm", None)
    with pytest.raises(ProviderError, match=r"pip install 'quackllm\[vllm\]'"):
        load_vllm("any", {})


# Answers


def test_answers_are_held_to_their_form_and_count_cached_tokens(directory: str) -> None:
    stub = StubEngine()
    config = ProviderConfig(model=directory)
    label, document, text = answers(
        stub,
        config,
        request(Choice(("yes", "no"))),
        request(JsonAnswer(json.dumps(SCHEMA))),
        request(FreeText(), "you", seed=7, temperature=0.5),
    )
    assert label.text == "yes"
    assert label.usage.completion_tokens == 1, "its first token can begin no other"
    assert json.loads(document.text) == {"n": 1}
    assert text.text == 'said {"text": "you"}'
    assert text.usage.cached_tokens == text.usage.prompt_tokens // 2
    choice, regex, free = (next(p for p in stub.prompts if set(p.held) == kind)
                           for kind in ({"choice"}, {"regex"}, set()))  # fmt: skip
    assert choice.held == {"choice": ["yes", "no"]}
    assert choice.max_tokens == 1
    assert '"n":' in regex.held["regex"]
    assert (free.seed, free.temperature) == (7, 0.5)


def test_small_models_choose_labels_by_calibrated_logprobs(directory: str) -> None:
    def likeliest(prompt: Prompt) -> list[tuple[str, float]]:
        bad = "bad" in str(prompt.messages)
        return [(" pos", -1.0 if not bad else -1.5), (" neg", -3.0 if not bad else -0.9)]

    stub = StubEngine(likeliest=likeliest, answer=lambda prompt: prompt.held["choice"][0])
    form = Choice(("pos", "neg"))
    config = ProviderConfig(model=directory, calibrate=True)
    asked = [request(form, text, neutral='{"text": "N/A"}') for text in ("bad film", "film")]
    bad, other = answers(stub, config, *asked)
    assert (bad.text, other.text) == ("neg", "pos")
    opened = stub.prompts[0]
    assert opened.opened
    assert opened.messages[-1] == {"role": "assistant", "content": "Label:"}
    assert opened.held == {"choice": [" pos", " neg"]}
    assert opened.logprobs == 20
    assert len(stub.prompts) == 3, "the question about no row is asked once"


def test_a_form_that_vllm_cannot_hold_to_is_asked_without_and_told_once(directory: str) -> None:
    told: list[str] = []
    stub = StubEngine(refuses=frozenset({"regex"}), answer=lambda _: '{"n": 1}')
    config = ProviderConfig(model=directory, notify=told.append)
    form = JsonAnswer(json.dumps(SCHEMA))
    for reply in answers(stub, config, *[request(form, str(n)) for n in range(3)]):
        assert reply.text == '{"n": 1}'
    [line] = told
    assert "no grammar for this" in line


@pytest.mark.parametrize(
    ("stub", "asked", "error"),
    [
        (StubEngine(window=64), request(FreeText(), "long " * 100), ContextWindowExceeded),
        (StubEngine(finish="error"), request(FreeText()), ServerFailed),
        (StubEngine(answer=lambda _: "<think> hm" * 9), request(FreeText()), InvalidAnswer),
        (StubEngine(fails_at=1), request(FreeText()), ProviderError),
    ],
    ids=["window", "error of a row", "reasoning only", "engine"],
)
def test_what_goes_wrong_has_the_error_of_a_server(
    directory: str, stub: StubEngine, asked: Request, error: type[Exception]
) -> None:
    [found] = answers(stub, ProviderConfig(model=directory), asked)
    assert isinstance(found, error), found


def test_a_row_that_takes_too_long_is_dropped_and_the_engine_goes_on(directory: str) -> None:
    stub = StubEngine(seconds=0.01, answer=lambda p: "x" * (9000 if "slow" in str(p) else 2))
    config = ProviderConfig(model=directory, timeout=0.3)
    slow = request(FreeText(), "slow", max_tokens=2000)
    late, quick = answers(stub, config, slow, request(FreeText()))
    assert isinstance(late, CallTimedOut)
    assert quick.text == "xx"
    assert stub.steps < 100


# In SQL


def test_statements_run_and_say_what_they_cost(directory: str) -> None:
    loader = StubLoader()
    with connection(loader, model=directory) as con:
        rows = con.execute(
            "SELECT LLM_CLASSIFY('row ' || n, ['a', 'b']) FROM range(40) r(n)"
        ).fetchall()
        assert rows == [("a",)] * 40
        [(calls, prompt, cached)] = con.execute(
            "SELECT calls, prompt_tokens, cached_tokens FROM llm_queries()"
        ).fetchall()
        assert calls == 40
        assert 0 < cached <= prompt / 2
        shown = con.execute(
            "SELECT model, endpoint, context_window, prefix_granularity, cache_tokens, "
            "concurrency FROM llm_models()"
        ).fetchall()
    assert shown == [(directory, "vllm", 4096, 16, 1600, 64)]
    assert len(loader.engines) == 1
    assert loader.engines[0].closed == 1


def test_other_settings_use_the_model_that_is_loaded(directory: str) -> None:
    loader = StubLoader()
    with connection(loader, model=directory) as con:
        for timeout in (10, 20, 30):
            con.execute(f"SET llm_call_timeout = {timeout}")
            con.execute(f"SELECT LLM('say', {timeout})").fetchall()
        with con.cursor() as cursor:
            cursor.execute("SELECT LLM('say', 'cursor')").fetchall()
        assert len(loader.engines) == 1
        con.execute("SET llm_vllm_options = '{\"max_model_len\": 2048}'")
        con.execute("SELECT LLM('say', 'other')").fetchall()
        assert [engine.closed for engine in loader.engines] == [1, 0]
    assert [options for _, options in loader.asked] == ["{}", '{"max_model_len": 2048}']
    assert [engine.closed for engine in loader.engines] == [1, 1]


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory of another model."""
    path = tmp_path_factory.mktemp("other")
    (path / "config.json").write_text("{}")
    return str(path)


def test_another_model_takes_the_place_of_one_that_nothing_uses(directory: str, other: str) -> None:
    loader = StubLoader()
    with connection(loader, model=directory) as con:
        for model in (directory, other, other, directory):
            con.execute(f"SET llm_model = '{model}'")
            con.execute("SELECT LLM('say', uuid()) FROM range(3)").fetchall()
            assert [engine.closed for engine in loader.engines][-1] == 0
            shown = con.execute("SELECT model FROM llm_models()").fetchall()
            assert shown == [(model,)], "what is loaded"
        assert [model for model, _ in loader.asked] == [directory, other, directory]
        assert [engine.closed for engine in loader.engines] == [1, 1, 0]


def test_as_many_models_stay_as_the_setting_says(directory: str, other: str) -> None:
    loader = StubLoader()
    with connection(loader, model=directory, max_loaded_models=2) as con:
        for model in (directory, other, directory, other):
            con.execute(f"SET llm_model = '{model}'")
            con.execute("SELECT LLM('say', uuid())").fetchall()
        con.execute("SET llm_vllm_options = '{\"max_model_len\": 2048}'")
        con.execute("SELECT LLM('say', uuid())").fetchall()
        assert [engine.closed for engine in loader.engines] == [1, 0, 0], "the one unused longest"


def test_models_of_one_statement_are_loaded_together(directory: str, other: str) -> None:
    loader = StubLoader()
    with connection(loader, provider="vllm") as con:
        for question in ("one", "two"):
            con.execute(
                f"SELECT LLM('{question}', n, model := '{directory}'), "
                f"LLM('{question}', n, model := '{other}') FROM range(5) r(n)"
            ).fetchall()
        assert [engine.closed for engine in loader.engines] == [0, 0]


def test_a_model_that_another_statement_uses_stays(directory: str, other: str) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def answer(prompt: Prompt) -> str:
        if "slow" in str(prompt.messages):
            begun.set()
            assert may_end.wait(30)
        return "said"

    loader = StubLoader(lambda: StubEngine(answer=answer))
    with connection(loader, model=directory) as con, con.cursor() as beside:
        rows: list[Any] = []
        slow = threading.Thread(
            target=lambda: rows.extend(con.execute("SELECT LLM('slow', 1)").fetchall())
        )
        slow.start()
        assert begun.wait(30)
        beside.execute(f"SET llm_model = '{other}'")
        assert beside.execute("SELECT LLM('say', 'x')").fetchall() == [("said",)]
        assert [engine.closed for engine in loader.engines] == [0, 0]
        may_end.set()
        slow.join()
        assert rows == [("said",)]


def test_an_engine_that_fails_stops_the_statement_with_its_reason(directory: str) -> None:
    loader = StubLoader(lambda: StubEngine(fails_at=3))
    with connection(loader, model=directory) as con:
        for _ in range(2):
            with pytest.raises(ProviderError, match="illegal memory access"):
                con.execute("SELECT LLM('say', n) FROM range(20) r(n)").fetchall()
    assert loader.engines[0].closed == 1


def test_a_model_that_cannot_be_loaded_stops_the_statement(directory: str) -> None:
    def fail(model: str, options: Any) -> StubEngine:
        raise ModelNotFound(f"vLLM cannot load '{model}': no memory")

    providers = Providers({"vllm": lambda: partial(open_vllm, load=fail)})
    settings = settings_from({"model": directory, "progress": False})
    with (
        Connection(duckdb.connect(), Engine(providers=providers, environ={}), settings) as con,
        pytest.raises(ModelNotFound, match="no memory"),
    ):
        con.execute("SELECT LLM('say', 'x')")


def test_answers_are_those_of_the_weights_and_not_of_the_place(
    directory: str, tmp_path: Path
) -> None:
    async def opened(config: ProviderConfig) -> InProcessVLLM:
        provider = await open_vllm(config, load=StubLoader())
        await provider.aclose()
        return provider

    def weights(**settings: Any) -> str | None:
        config = ProviderConfig(model=directory, **settings)
        return asyncio.run(opened(config)).capabilities.weights

    plain = weights()
    assert plain is not None
    assert weights(timeout=9.0, vllm_options='{"max_num_seqs": 8}') == plain
    assert weights(vllm_options='{"dtype": "float32"}') != plain
    assert weights(calibrate=True) != plain
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert weights() != plain


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("'fast'", "must be a JSON object"),
        ("'[1]'", "must be a JSON object"),
        ("'{\"max_model_length\": 1}'", "did you mean max_model_len?"),
        ("'{\"trust_remote_code\": true}'", "names no option trust_remote_code"),
        ('\'{"max_model_len": "8k"}\'', "takes a int as max_model_len"),
        ("'{\"block_size\": true}'", "takes a int as block_size"),
    ],
)
def test_options_are_checked_when_they_are_set(written: str, said: str) -> None:
    with connection(StubLoader()) as con, pytest.raises(SettingError, match=said):
        con.execute(f"SET llm_vllm_options = {written}")


def test_options_can_be_written_as_a_struct() -> None:
    with connection(StubLoader()) as con:
        con.execute("SET llm_vllm_options = {'max_model_len': 8192, 'enforce_eager': true}")
        [(shown,)] = con.execute("SELECT current_setting('llm_vllm_options')").fetchall()
    assert json.loads(shown) == {"max_model_len": 8192, "enforce_eager": True}
