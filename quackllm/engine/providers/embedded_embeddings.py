"""Embeddings by llama.cpp in this process: all-MiniLM-L6-v2 from a package, or any GGUF file."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.base import Capabilities, Reply, Usage
from quackllm.engine.providers.embedded import (
    import_xllamacpp,
    model_file,
    raise_failure,
    threads_of_model,
)
from quackllm.engine.providers.minilm import minilm_path
from quackllm.engine.providers.registry import EMBEDDED_EMBEDDING_MODEL
from quackllm.engine.providers.text_batches import TextBatches, shared_usage, wanted
from quackllm.engine.providers.weights import digest_of_file
from quackllm.errors import CallTimedOut, ModelNotFound, RequestRefused
from quackllm.udfs.vectors import packed

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Request
    from quackllm.engine.providers.config import ProviderConfig

TEXTS_PER_REQUEST = 32
"""More do not raise the throughput of a CPU, and take longer to give up."""

WINDOW = 512
"""Tokens of the longest text, as models of the BERT family have it."""

# Raised when the same model is asked in another way, so that older answers are not used.
_WAY_OF_ASKING = "embedded-embeddings-1"
_SLOTS = 8
_QUIET = -1
_PROBE = "how many dimensions?"


async def open_embedded_embeddings(
    config: ProviderConfig, *, threads: int | None = None
) -> EmbeddedEmbeddings:
    """Load the model at the path `config.model`, or all-MiniLM-L6-v2.

    threads: CPU threads of llama.cpp; None for one fewer than there are cores.

    Raises `ModelNotFound` when there is no file or it makes no embeddings, and
    `ProviderError` when xllamacpp is not installed.
    """
    packaged = config.model is None or config.model.lower() == EMBEDDED_EMBEDDING_MODEL
    path = await asyncio.to_thread(
        minilm_path if packaged else lambda: model_file(str(config.model))
    )
    model = EMBEDDED_EMBEDDING_MODEL if packaged else str(path)
    server = await asyncio.to_thread(_load, path, threads)
    first, _ = await asyncio.to_thread(_embed, server, [_PROBE])
    digest = await asyncio.to_thread(digest_of_file, path)
    capabilities = Capabilities(
        dimensions=len(first[0]),
        texts_per_request=TEXTS_PER_REQUEST,
        cache_tokens=0,
        context_window=WINDOW,
        concurrency=TEXTS_PER_REQUEST,
        weights=f"{_WAY_OF_ASKING}:{digest}",
    )
    return EmbeddedEmbeddings(server, model, capabilities, config.timeout)


class EmbeddedEmbeddings:
    """A `Provider` of embeddings over llama.cpp. Made by `open_embedded_embeddings`."""

    def __init__(self, server: Any, model: str, capabilities: Capabilities, timeout: float) -> None:
        self._server = server
        self._model = model
        self._capabilities = capabilities
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="quackllm-embeddings")
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
        """Wait for the texts in work, end the thread and free the model."""
        # Not in a thread of its own: while the interpreter ends, none can be started.
        self._pool.shutdown(cancel_futures=True)
        self._server = None

    async def _send(self, texts: Sequence[str], dimensions: int) -> list[Reply]:
        if dimensions != self._capabilities.dimensions:
            raise RequestRefused(
                f"{self._model} gives {self._capabilities.dimensions} dimensions, and no other "
                f"number of them: dimensions := {dimensions} is for models that can"
            )
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                vectors, usage = await loop.run_in_executor(self._pool, _embed, self._server, texts)
        except TimeoutError:
            failure = CallTimedOut(f"no answer within {self._timeout:g} s (llm_call_timeout)")
        else:
            shares = shared_usage(usage, texts)
            pairs = zip(vectors, shares, strict=True)
            return [Reply(packed(vector), share) for vector, share in pairs]
        raise failure

    def __repr__(self) -> str:
        return f"EmbeddedEmbeddings(model={self.model!r})"


def _load(path: Path, threads: int | None) -> Any:
    xllamacpp = import_xllamacpp()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.embedding = True
    parameters.n_parallel = _SLOTS
    parameters.n_ctx = WINDOW * _SLOTS
    # A text is read at once, by attention that looks both ways: it has to fit in a batch.
    parameters.n_batch = parameters.n_ubatch = WINDOW * _SLOTS
    parameters.verbosity = _QUIET
    parameters.warmup = False
    # llama.cpp also listens on a port of this machine; nobody is told the key.
    parameters.api_keys = [secrets.token_urlsafe()]
    chosen = threads_of_model(threads)
    parameters.cpuparams.n_threads = chosen
    parameters.cpuparams_batch.n_threads = chosen
    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise ModelNotFound(f"'{path}' is not a model that llama.cpp can load") from error


def _embed(server: Any, texts: Sequence[str]) -> tuple[list[list[float]], Usage]:
    """Return the vectors of texts, in their order, and the tokens of all."""
    said = server.handle_embeddings({"input": list(texts)})
    if "error" in said:
        raise_failure(said["error"])
    items = sorted(said["data"], key=lambda item: item["index"])
    vectors = [item["embedding"] for item in items]
    return vectors, Usage(prompt_tokens=said["usage"]["prompt_tokens"])
