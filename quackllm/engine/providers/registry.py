"""Providers by name, from the entry-point group `quackllm.providers`, and which to take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from quackllm.engine.providers.config import ProviderConfig, Secret
from quackllm.errors import ModelNotFound, SettingError

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Provider

GROUP = "quackllm.providers"
EMBEDDED_MODEL = "smollm2-135m-instruct"
EMBEDDED_EMBEDDING_MODEL = "all-minilm-l6-v2"
VLLM_IN_PROCESS = "vllm"

_FOR_EMBEDDINGS = {"openai": "openai_embeddings", "embedded": "embedded_embeddings"}
"""Which provider makes embeddings in the place of one that answers; others do both."""

Factory = Callable[[ProviderConfig], Awaitable["Provider"]]
"""Opens a provider: a coroutine function, run in the event loop that will call it."""


class Providers:
    """The providers that are installed: name → factory.

    An entry point is loaded when its provider is opened, so a provider whose
    dependencies are not installed costs nothing and breaks nothing.
    """

    def __init__(self, factories: Mapping[str, Callable[[], Factory]]) -> None:
        self._loaders = dict(factories)
        self._default_was_told = False

    @classmethod
    def installed(cls) -> Providers:
        """Find the entry points of every installed package."""
        return cls({point.name: point.load for point in entry_points(group=GROUP)})

    def names(self) -> tuple[str, ...]:
        """Names that `open` takes, sorted."""
        return tuple(sorted(self._loaders))

    async def open(self, config: ProviderConfig, environ: Mapping[str, str]) -> Provider:
        """Open the provider that the settings, else the environment, else the default name.

        Says once, through `config.notify`, that nothing was chosen and the embedded
        model is used. Raises `SettingError` for a provider that is not installed and
        what the factory raises: a `ProviderError`.
        """
        name = choose(config, environ)
        loader = self._loaders.get(name)
        if loader is None:
            raise SettingError(
                f"Invalid Input Error: there is no provider '{name}'; installed are: "
                + ", ".join(self.names())
            )
        provider = await loader()(from_environment(config, environ))
        if is_default(config, environ) and not self._default_was_told:
            self._default_was_told = True
            config.notify(
                f"no model is chosen: using {provider.model}, embedded, real but very small; "
                "SET llm_base_url or llm_model for a better one"
            )
        return provider


def choose(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    """Return the name of the provider: explicit settings, else environment, else embedded.

    Raises `ModelNotFound` for a model by name when no server is known that has it.
    """
    if config.embeds:
        found = _choose_for_embeddings(config, environ)
        return _FOR_EMBEDDINGS.get(found, found)
    if config.provider is not None:
        return config.provider
    if config.base_url is not None:
        return "openai"
    if config.model is not None and is_embedded_model(config.model):
        return "embedded"
    if config.api_key is not None or _known_server(environ):
        return "openai"
    if config.model is not None:
        if is_model_directory(config.model):
            return VLLM_IN_PROCESS
        raise ModelNotFound(
            f"the model '{config.model}' is a name, and no server is set to ask for it: "
            "SET llm_base_url = 'http://...', or give the path of a .gguf file or of a directory "
            "that vLLM can load"
        )
    return "embedded"


def _choose_for_embeddings(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    """Return the name of the provider that would answer, of the model for embeddings."""
    model = (config.model or EMBEDDED_EMBEDDING_MODEL).lower()
    if config.provider not in (None, VLLM_IN_PROCESS):  # which makes none
        return config.provider
    if model.endswith(".gguf") or model == EMBEDDED_EMBEDDING_MODEL:
        return "embedded"
    if config.base_url is not None or config.api_key is not None or _known_server(environ):
        return "openai"
    raise ModelNotFound(
        f"the embedding model '{config.model}' is a name, and no server is set to ask for it: "
        "SET llm_base_url = 'http://...', CREATE MODEL with its own base_url, or give the path "
        "of a .gguf file"
    )


def is_default(config: ProviderConfig, environ: Mapping[str, str]) -> bool:
    """Tell whether nobody, neither settings nor environment, has chosen a model."""
    chosen = (config.provider, config.base_url, config.model, config.api_key)
    if config.embeds:  # of one that is as good as its like, nobody has to be told
        return False
    return all(setting is None for setting in chosen) and not _known_server(environ)


def from_environment(config: ProviderConfig, environ: Mapping[str, str]) -> ProviderConfig:
    """Fill in OPENAI_BASE_URL and OPENAI_API_KEY where the settings name no server.

    A key from the environment goes to the server of the environment only: not to an
    address that a statement has set.
    """
    if config.base_url is not None:
        return config
    key = environ.get("OPENAI_API_KEY")
    return replace(
        config,
        base_url=environ.get("OPENAI_BASE_URL") or None,
        api_key=config.api_key or (Secret(key) if key else None),
    )


def is_embedded_model(model: str) -> bool:
    """Tell whether a model is a file, or the one that the embedded provider brings."""
    return model.lower().endswith(".gguf") or model.lower() == EMBEDDED_MODEL


def is_model_directory(model: str) -> bool:
    """Tell whether a model is a directory of weights and configuration, as vLLM loads it."""
    return (Path(model).expanduser() / "config.json").is_file()


def _known_server(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("OPENAI_BASE_URL") or environ.get("OPENAI_API_KEY"))
