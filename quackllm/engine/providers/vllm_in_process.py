"""vLLM in this process: the requests, constraints and labels of its server without the HTTP."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.calibrated_labels import (
    OPENED_LOGPROBS,
    OPENING,
    CalibratedLabels,
    labels_after_opening,
)
from quackllm.engine.providers.constraints import Constraint, ServerKind, constraint
from quackllm.engine.providers.inference import EngineWorker, Generation, Prompt
from quackllm.engine.providers.openai_probe import Served
from quackllm.engine.providers.openai_reply import read_first_tokens, read_reply
from quackllm.engine.providers.prompts import chat_messages
from quackllm.engine.providers.registry import VLLM_IN_PROCESS, is_model_directory
from quackllm.engine.providers.server_capabilities import capabilities_of
from quackllm.engine.providers.short_labels import ShortLabels
from quackllm.engine.providers.vllm_engine import load_vllm
from quackllm.engine.providers.vllm_metrics import PrefixCache
from quackllm.engine.providers.vllm_options import options_of
from quackllm.engine.providers.weights import digest_of_directory
from quackllm.errors import CallTimedOut, ModelNotFound, ServerFailed, Trouble
from quackllm.udfs.base import Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from quackllm.engine.providers.base import Capabilities, Reply, Request, Usage
    from quackllm.engine.providers.calibration import Distribution
    from quackllm.engine.providers.config import ProviderConfig
    from quackllm.engine.providers.inference import InferenceEngine
    from quackllm.engine.providers.loaded_models import Hold
    from quackllm.udfs.base import AnswerForm

    Load = Callable[[str, Mapping[str, Any]], InferenceEngine]

# Raised when the same model is asked in another way, so that older answers are not used.
_WAY_OF_ASKING = "vllm-1"


async def open_vllm(config: ProviderConfig, *, load: Load = load_vllm) -> InProcessVLLM:
    """Load `config.model`, a directory or a name of vLLM's hub, unless it is loaded already.

    load: makes the engine, in its thread.

    Raises `ModelNotFound` when there is no model or vLLM cannot load it, and `ProviderError`
    where vLLM is not installed.
    """
    model = model_of(config.model)
    key = VLLM_IN_PROCESS, model, config.vllm_options
    build = partial(load, model, options_of(config.vllm_options))
    load_it = partial(EngineWorker.start, build)
    held = await config.loaded.hold(key, load_it, config.holder)
    try:
        weights = await asyncio.to_thread(_weights, model, config)
    except BaseException:
        held.release()
        raise
    return InProcessVLLM(held, model, config, weights)


def model_of(named: str | None) -> str:
    """Return what vLLM is told to load. Raises `ModelNotFound` where that cannot be anything."""
    if named is None:
        raise ModelNotFound(
            "llm_provider = 'vllm' needs a model: SET llm_model = '/models/qwen3-8b', a directory "
            "of weights, or a name that vLLM can fetch"
        )
    if is_model_directory(named):
        return str(Path(named).expanduser())
    if Path(named).expanduser().exists():
        raise ModelNotFound(f"'{named}' is no model that vLLM can load: it has no config.json")
    if named.startswith(("/", "~", ".")):
        raise ModelNotFound(f"there is no model directory '{named}'")
    return named


class InProcessVLLM:
    """A `Provider` over an inference engine in this process. Made by `open_vllm`."""

    def __init__(
        self,
        held: Hold[EngineWorker],
        model: str,
        config: ProviderConfig,
        weights: str | None,
    ) -> None:
        """Make one that lets go of its engine when it is closed."""
        self._worker = held.model
        self._model = model
        self._timeout = config.timeout
        self._notify = config.notify
        self._release: Callable[[], None] | None = held.release
        self._capabilities = _capabilities(held.model.engine, model, config, weights)
        self._constraints: dict[AnswerForm, Constraint] = {}
        calibrates = self._capabilities.calibrated
        self._calibrated = CalibratedLabels(self._first_tokens, held=True) if calibrates else None
        self._short_labels = ShortLabels(self._send)

    @property
    def model(self) -> str:
        """The directory of the model, or its name."""
        return self._model

    @property
    def endpoint(self) -> str:
        """'vllm'."""
        return VLLM_IN_PROCESS

    @property
    def capabilities(self) -> Capabilities:
        """What a vLLM server of the same model can do, and that it counts cached tokens."""
        return self._capabilities

    async def complete(self, request: Request) -> Reply:
        """Answer one request.

        Raises `ContextWindowExceeded`, `CallTimedOut`, `InvalidAnswer` and `ServerFailed` for
        the row, `ProviderError` once the engine has failed.
        """
        if not isinstance(request.answer, Choice):
            return await self._send(request)
        if self._calibrated is not None:
            reply = await self._calibrated.complete(request, request.answer)
            if reply is not None:
                return reply
        return await self._short_labels.complete(request, request.answer)

    async def tokenize(self, request: Request) -> Sequence[int] | None:
        """Return the tokens of a prompt."""
        return await self._worker.tokens(Prompt(chat_messages(request), request.max_tokens))

    async def aclose(self) -> None:
        """Let go of the engine; the last to do so ends its thread and frees the model."""
        release, self._release = self._release, None
        if release is not None:
            release()

    async def _send(self, request: Request) -> Reply:
        limits = self._constraint(request.answer)
        prompt = Prompt(
            chat_messages(request),
            request.max_tokens,
            request.temperature,
            request.seed,
            limits.body.get("structured_outputs", {}),
        )
        failure: ServerFailed
        try:
            completion = await self._within_timeout(self._worker.generate(prompt))
        except ValueError as error:
            if limits.body:
                self._do_without(request.answer, error)
                return await self._send(request)
            failure = ServerFailed(f"vLLM does not take the request: {error}")
            raise failure from error
        return read_reply(completion, request, limits)

    async def _first_tokens(self, request: Request, form: Choice) -> tuple[Distribution, Usage]:
        """Return what an opened answer may begin with, held to the labels."""
        labels = Choice(labels_after_opening(form))
        prompt = Prompt(
            [*chat_messages(request), {"role": "assistant", "content": OPENING}],
            max_tokens=1,
            held=constraint(labels, ServerKind.VLLM).body["structured_outputs"],
            opened=True,
            logprobs=OPENED_LOGPROBS,
        )
        try:
            completion = await self._within_timeout(self._worker.generate(prompt))
        except ValueError as error:
            raise ServerFailed(f"vLLM does not take the labels: {error}") from error
        return read_first_tokens(completion)

    async def _within_timeout(self, call: Coroutine[Any, Any, Generation]) -> dict[str, Any]:
        """Return what a server would have sent. Raises `CallTimedOut`."""
        try:
            async with asyncio.timeout(self._timeout):
                return _as_completion(await call)
        except TimeoutError:
            failure = CallTimedOut(f"no answer within {self._timeout:g} s (llm_call_timeout)")
        raise failure

    def _constraint(self, form: AnswerForm) -> Constraint:
        known = self._constraints.get(form)
        if known is None:
            known = self._constraints[form] = constraint(form, ServerKind.VLLM)
        return known

    def _do_without(self, form: AnswerForm, error: ValueError) -> None:
        """Give up a constraint that vLLM cannot hold answers to; the person is told once."""
        if self._constraints[form].body:
            self._constraints[form] = Constraint()
            self._notify(
                "vLLM does not hold answers to the type asked for; those that do not fit become "
                f"NULL. It says: {error}"
            )

    def __repr__(self) -> str:
        return f"InProcessVLLM(model={self.model!r})"


def _capabilities(
    engine: InferenceEngine, model: str, config: ProviderConfig, weights: str | None
) -> Capabilities:
    cache = PrefixCache(engine.block_size, engine.cache_tokens, engine.caches_prefixes)
    served = Served(
        ServerKind.VLLM,
        (model,),
        (engine.window,),
        prefix_cache=cache,
        holds_choices=True,
        revisions=(engine.revision,),
    )
    can = capabilities_of(served, model, config)
    if weights is not None and can.calibrated:
        weights += "-calibrated"
    return replace(can, tokenizes=True, reports_cached_tokens=True, weights=weights)


def _weights(model: str, config: ProviderConfig) -> str | None:
    """Return a name for the weights of a directory, and the options that answers depend on."""
    if not is_model_directory(model):
        return None
    options = options_of(config.vllm_options)
    computed = {name: options[name] for name in ("dtype", "quantization") if name in options}
    return f"{_WAY_OF_ASKING}:{digest_of_directory(Path(model))}:{json.dumps(computed)}"


def _as_completion(generation: Generation) -> dict[str, Any]:
    """Return a generation as vLLM's server writes it. Raises `ServerFailed` for none."""
    if generation.finish not in ("stop", "length"):
        said = f"vLLM gave no answer to this row: {generation.finish}"
        raise ServerFailed(said, trouble=Trouble.FAILED)
    likeliest = [{"token": token, "logprob": value} for token, value in generation.likeliest]
    return {
        "choices": [
            {
                "message": {"content": generation.text},
                "finish_reason": generation.finish,
                "logprobs": {"content": [{"top_logprobs": likeliest}]},
            }
        ],
        "usage": {
            "prompt_tokens": generation.prompt_tokens,
            "completion_tokens": generation.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": generation.cached_tokens},
        },
    }
