"""Which provider is taken: settings, else the environment, else the embedded model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quackllm.engine.providers.config import ProviderConfig, Secret
from quackllm.engine.providers.registry import Providers, choose, from_environment
from quackllm.errors import ModelNotFound, SettingError
from quackllm.testing import FakeProvider

ENVIRONMENT = {"OPENAI_BASE_URL": "http://env/v1", "OPENAI_API_KEY": "sk-env"}


@pytest.mark.parametrize(
    ("settings", "environ", "name"),
    [
        ({}, {}, "embedded"),
        ({}, {"OPENAI_BASE_URL": ""}, "embedded"),
        ({}, {"OPENAI_API_KEY": "sk"}, "openai"),
        ({}, {"OPENAI_BASE_URL": "http://env/v1"}, "openai"),
        ({"model": "qwen3"}, ENVIRONMENT, "openai"),
        ({"model": "/models/a.GGUF"}, ENVIRONMENT, "embedded"),
        ({"model": "SmolLM2-135M-Instruct"}, ENVIRONMENT, "embedded"),
        ({"base_url": "http://here/v1"}, {}, "openai"),
        ({"base_url": "http://here/v1", "model": "a.gguf"}, {}, "openai"),
        ({"api_key": Secret("sk")}, {}, "openai"),
        ({"provider": "mine", "base_url": "http://here/v1"}, ENVIRONMENT, "mine"),
    ],
)
def test_explicit_settings_come_before_the_environment_and_that_before_the_default(
    settings: dict[str, Any], environ: dict[str, str], name: str
) -> None:
    assert choose(ProviderConfig(**settings), environ) == name


def test_a_model_name_without_a_server_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(ModelNotFound, match="SET llm_base_url"):
        choose(ProviderConfig(model="qwen3-8b"), {})


def test_the_environment_fills_in_address_and_key() -> None:
    filled = from_environment(ProviderConfig(model="m"), ENVIRONMENT)
    assert filled == ProviderConfig(model="m", base_url="http://env/v1", api_key=Secret("sk-env"))


def test_a_key_from_the_environment_does_not_go_to_an_address_from_a_statement() -> None:
    config = ProviderConfig(base_url="http://elsewhere/v1")
    assert from_environment(config, ENVIRONMENT) is config


def providers_named(*names: str) -> Providers:
    async def open_one(config: ProviderConfig) -> FakeProvider:
        return FakeProvider(model=config.model or "small")

    return Providers({name: lambda: open_one for name in names})


def test_the_default_is_told_once_and_a_choice_is_not() -> None:
    told: list[str] = []
    providers = providers_named("embedded")
    asyncio.run(providers.open(ProviderConfig(model="a.gguf", notify=told.append), {}))
    assert told == []
    for _ in range(2):
        asyncio.run(providers.open(ProviderConfig(notify=told.append), {}))
    assert len(told) == 1
    assert "using small" in told[0]
    assert "\n" not in told[0]


def test_an_unknown_provider_is_an_error_that_lists_those_installed() -> None:
    with pytest.raises(SettingError, match="no provider 'vlm'; installed are: embedded, openai"):
        asyncio.run(providers_named("openai", "embedded").open(ProviderConfig(provider="vlm"), {}))


def test_the_built_in_providers_come_through_the_entry_points() -> None:
    providers = Providers.installed()
    assert {"embedded", "fake", "openai"} <= set(providers.names())
    provider = asyncio.run(providers.open(ProviderConfig(provider="fake"), {}))
    assert provider.endpoint == "fake"


def test_a_secret_shows_in_no_text_and_is_not_pickled() -> None:
    import pickle

    secret = Secret("sk-hidden")
    shown = f"{secret} {secret!r} {ProviderConfig(api_key=secret)!r} {vars(ProviderConfig)!r}"
    assert "hidden" not in shown
    assert secret.redact("bad key sk-hidden!") == "bad key ***!"
    with pytest.raises(TypeError, match="in clear"):
        pickle.dumps(secret)
