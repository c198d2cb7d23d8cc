"""`llm_offline`: no text leaves this machine. Decided by what is written, before any look-up."""

from __future__ import annotations

from collections.abc import Mapping

from quackllm.engine.providers.config import Address, ProviderConfig
from quackllm.engine.providers.registry import (
    VLLM_IN_PROCESS,
    choose,
    from_environment,
    is_model_directory,
)
from quackllm.engine.secrets import OPENAI
from quackllm.errors import NotOnThisMachine

IN_PROCESS: Mapping[str, str] = {
    "embedded": "embedded",
    "embedded_embeddings": "embedded/embeddings",
    "fake": "fake",
    VLLM_IN_PROCESS: VLLM_IN_PROCESS,
}
"""Providers that answer in this process, with what they call their endpoint."""


def refuse_unless_local(config: ProviderConfig, environ: Mapping[str, str]) -> None:
    """Raise `NotOnThisMachine` unless what the config opens is on this machine for certain."""
    name = choose(config, environ)
    if name == VLLM_IN_PROCESS and config.model and not is_model_directory(config.model):
        raise NotOnThisMachine(
            f"llm_offline is on, and vLLM would fetch the model '{config.model}' where it is not "
            "on this machine: SET llm_model to its directory, or RESET llm_offline"
        )
    if name in IN_PROCESS:
        return
    url = from_environment(config, environ).base_url
    if url is None and name == "openai":
        url = OPENAI
    if url is None:
        raise NotOnThisMachine(
            f"llm_offline is on, and where the provider '{name}' runs is not known: "
            "SET llm_base_url, or RESET llm_offline"
        )
    for address in (url, *(other.base_url for other in config.also if other.base_url)):
        _refuse_elsewhere(address)


def refuse_unless_here(endpoint: str) -> None:
    """Raise `NotOnThisMachine` for a URL of another machine; a mere name is of this process."""
    if "//" in endpoint:
        _refuse_elsewhere(endpoint)


def _refuse_elsewhere(url: str) -> None:
    address = Address.parse(url)
    if not address.is_loopback:
        raise NotOnThisMachine(
            f"llm_offline is on, and {address} is not on this machine: only http://localhost "
            "and loopback addresses are asked. RESET llm_offline to ask it"
        )
