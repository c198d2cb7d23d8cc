"""Embeddings by llama.cpp in this process: all-MiniLM-L6-v2 from a package, or any GGUF file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from quackllm.engine.providers.base import Capabilities, Reply, Usage
from quackllm.engine.providers.embedded import model_file, raise_failure
from quackllm.engine.providers.llama_model import LlamaOptions, load_llama
from quackllm.engine.providers.minilm import minilm_path
from quackllm.engine.providers.registry import EMBEDDED_EMBEDDING_MODEL
from quackllm.engine.providers.text_batches import TextBatches, shared_usage, wanted
from quackllm.errors import CallTimedOut, RequestRefused
from quackllm.udfs.vectors import packed

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Request
    from quackllm.engine.providers.config import ProviderConfig
    from quackllm.engine.providers.llama_model import LlamaModel
    from quackllm.engine.providers.loaded_models import Hold

TEXTS_PER_REQUEST = 32
"""More do not raise the throughput of a CPU, and take longer to give up."""

WINDOW = 512
"""Tokens of the longest text, as models of the BERT family have it."""

# Raised when the same model is asked in another way, so that older answers are not used.
_WAY_OF_ASKING = "embedded-embeddings-1"
_SLOTS = 8
_PROBE = "how many dimensions?"


async def open_embedded_embeddings(
    config: ProviderConfig, *, threads: int | None = None
) -> EmbeddedEmbeddings:
    """Load the model at the path `config.model`, or all-MiniLM-L6-v2, unless it is loaded.

    threads: CPU threads of llama.cpp; None for one fewer than there are cores.

    Raises `ModelNotFound` when there is no file or it makes no embeddings, and
    `ProviderError` when xllamacpp is not installed.
    """
    packaged = config.model is None or config.model.lower() == EMBEDDED_EMBEDDING_MODEL
    path = await asyncio.to_thread(
        minilm_path if packaged else lambda: model_file(str(config.model))
    )
    model = EMBEDDED_EMBEDDING_MODEL if packaged else str(path)
    options = LlamaOptions(_SLOTS, WINDOW, callers=1, threads=threads, embeds=True)
    held = await config.loaded.hold(
        ("embedded_embeddings", path, options),
        partial(asyncio.to_thread, load_llama, path, options),
        config.holder,
    )
    try:
        first, _ = await asyncio.to_thread(_embed, held.model, [_PROBE])
    except BaseException:
        held.release()
        raise
    capabilities = Capabilities(
        dimensions=len(first[0]),
        texts_per_request=TEXTS_PER_REQUEST,
        cache_tokens=0,
        context_window=WINDOW,
        concurrency=TEXTS_PER_REQUEST,
        weights=f"{_WAY_OF_ASKING}:{held.model.digest}",
    )
    return EmbeddedEmbeddings(held, model, capabilities, config.timeout)


class EmbeddedEmbeddings:
    """A `Provider` of embeddings over llama.cpp. Made by `open_embedded_embeddings`."""

    def __init__(
        self, held: Hold[LlamaModel], model: str, capabilities: Capabilities, timeout: float
    ) -> None:
        """Make one that lets go of its model when it is closed."""
        self._llama = held.model
        self._release: Callable[[], None] | None = held.release
        self._model = model
        self._capabilities = capabilities
        self._timeout = timeout
        self._batches = TextBatches(self._send, TEXTS_PER_REQUEST)

    @property
    def model(self) -> str:
        """Path of the model file, or the name of the model from the package."""
        return self._model

    @property
    def endpoint(self) -> str:
        """'embedded/embeddings'."""
        return "embedded/embeddings"

    @property
    def capabilities(self) -> Capabilities:
        """What was found out of the model."""
        return self._capabilities

    async def complete(self, request: Request) -> Reply:
        """Embed the field of a request, together with those of other calls in flight.

        Raises `ContextWindowExceeded`, `CallTimedOut` and `ServerFailed` for the row, and
        `RequestRefused` for a number of dimensions that the model does not give.
        """
        return await self._batches.embed(*wanted(request))

    async def aclose(self) -> None:
        """Let go of the model; the last to do so waits for the texts in work, and frees it."""
        release, self._release = self._release, None
        if release is not None:
            release()

    async def _send(self, texts: Sequence[str], dimensions: int) -> list[Reply]:
        if dimensions != self._capabilities.dimensions:
            raise RequestRefused(
                f"{self._model} gives {self._capabilities.dimensions} dimensions, and no other "
                f"number of them: dimensions := {dimensions} is for models that can"
            )
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                vectors, usage = await loop.run_in_executor(
                    self._llama.callers, _embed, self._llama, texts
                )
        except TimeoutError:
            failure = CallTimedOut(f"no answer within {self._timeout:g} s (llm_call_timeout)")
        else:
            shares = shared_usage(usage, texts)
            pairs = zip(vectors, shares, strict=True)
            return [Reply(packed(vector), share) for vector, share in pairs]
        raise failure

    def __repr__(self) -> str:
        return f"EmbeddedEmbeddings(model={self.model!r})"


def _embed(llama: LlamaModel, texts: Sequence[str]) -> tuple[list[list[float]], Usage]:
    """Return the vectors of texts, in their order, and the tokens of all."""
    said = llama.server.handle_embeddings({"input": list(texts)})
    if "error" in said:
        raise_failure(said["error"])
    items = sorted(said["data"], key=lambda item: item["index"])
    vectors = [item["embedding"] for item in items]
    return vectors, Usage(prompt_tokens=said["usage"]["prompt_tokens"])
