"""Which model it is that answers: by its weights, else by what its server says of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.embedded import open_embedded
from quackllm.engine.providers.openai_compatible import open_openai_compatible
from quackllm.engine.providers.weights import digest_of_file
from quackllm.testing import FakeServer
from quackllm.testing.server import Flavor


def changed(path: Path, offset: int) -> str:
    """Change one byte of a file, take its digest, and change the byte back."""
    with path.open("r+b") as file:
        for byte in (b"x", b"\0"):
            file.seek(offset)
            file.write(byte)
            file.flush()
            if byte == b"x":
                digest = digest_of_file(path)
    return digest


def test_the_digest_is_of_the_content_and_not_of_the_name(tmp_path: Path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    for path in (first, second):
        path.write_bytes(bytes(1_000_000))
    assert digest_of_file(first) == digest_of_file(second)
    assert changed(first, 999_999) != digest_of_file(first)
    second.write_bytes(bytes(1_000_001))
    assert digest_of_file(first) != digest_of_file(second)


def test_of_a_large_file_the_head_and_a_part_of_every_mebibyte_count(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)  # sparse: takes no room
    whole = digest_of_file(path)
    for offset in (5, 16 * 2**20 - 1, 17 * 2**20 + 60_000, 299 * 2**20 + 10):
        assert changed(path, offset) != whole
    with path.open("r+b") as file:
        file.truncate(300 * 2**20 + 1)
    assert digest_of_file(path) != whole


@pytest.mark.parametrize(
    ("flavor", "says"), [("ollama", True), ("vllm", True), ("llama.cpp", True), ("openai", False)]
)
def test_servers_that_say_what_is_behind_a_name_are_heard(flavor: Flavor, says: bool) -> None:
    async def revision(url: str, model: str) -> str | None:
        provider = await open_openai_compatible(ProviderConfig(base_url=url, model=model))
        await provider.aclose()
        assert provider.capabilities.weights is None
        return provider.capabilities.revision

    with FakeServer(flavor=flavor) as server:
        known = asyncio.run(revision(server.base_url, "fake-model"))
        assert (known is not None) is says
        if flavor == "llama.cpp":  # serves its one model under any name
            assert asyncio.run(revision(server.base_url, "any name")) == known


@pytest.mark.local_model
def test_the_embedded_model_is_known_by_its_weights() -> None:
    async def weights() -> str | None:
        provider = await open_embedded(ProviderConfig())
        await provider.aclose()
        return provider.capabilities.weights

    first = asyncio.run(weights())
    assert first is not None and first.startswith("embedded-1:")
    assert asyncio.run(weights()) == first
