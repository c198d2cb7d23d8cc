"""Models behind the OpenAI chat completions protocol: vLLM, llama.cpp, Ollama, hosted."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import openai

from quackllm.engine.providers.base import Reply
from quackllm.engine.providers.cache_marks import marked
from quackllm.engine.providers.calibrated_labels import (
    CalibratedLabels,
    labels_after_opening,
    opened_answer,
)
from quackllm.engine.providers.config import Address
from quackllm.engine.providers.constraints import (
    Constraint,
    ServerKind,
    constraint,
    constraint_names,
)
from quackllm.engine.providers.local_tokenizer import LocalTokenizer, open_local_tokenizer
from quackllm.engine.providers.openai_batches import OpenAIBatches
from quackllm.engine.providers.openai_errors import (
    Place,
    error_text,
    is_context_overflow,
    is_unexplained_refusal,
    timed_out,
    translate,
)
from quackllm.engine.providers.openai_limits import allowance
from quackllm.engine.providers.openai_probe import Served, fetch_metrics, probe, watched
from quackllm.engine.providers.openai_reply import fingerprint, read_first_tokens, read_reply
from quackllm.engine.providers.prompts import chat_messages
from quackllm.engine.providers.server_capabilities import MOST_CONCURRENCY, capabilities_of
from quackllm.engine.providers.server_tokenizer import tokens_of_chat
from quackllm.engine.providers.short_labels import ShortLabels
from quackllm.engine.providers.vllm_hints import VLLMHints
from quackllm.errors import (
    CallError,
    ContextWindowExceeded,
    ModelNotFound,
    ProviderError,
    RequestRefused,
    ServerFailed,
    Trouble,
)
from quackllm.udfs.base import Choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quackllm.engine.providers.base import Allowance, Capabilities, Request, Usage
    from quackllm.engine.providers.calibration import Distribution
    from quackllm.engine.providers.config import ProviderConfig
    from quackllm.udfs.base import AnswerForm

OPENAI_URL = "https://api.openai.com/v1"

# So many refusals before any answer mean that it refuses the form of the request and
# not a row.
_STREAK_THAT_STOPS = 3
_CONNECTIONS_BEYOND_CALLS = 4
_NAMES_CONSTRAINT = ("response_format", "json_schema", "structured_output", "grammar", "schema")


async def open_openai_compatible(config: ProviderConfig) -> OpenAICompatible:
    """Return a provider for the server at `config.base_url`, which is asked who it is.

    Without a model in the config the one that the server serves is taken. Raises
    `ServerUnreachable`, `AuthenticationFailed` and, when there is not exactly one
    model to take, `ModelNotFound`; `ProviderError` for a tokenizer that cannot be read.
    """
    tokenizer = None
    if config.tokenizer is not None:
        tokenizer = await asyncio.to_thread(open_local_tokenizer, config.tokenizer)
    url = config.base_url or OPENAI_URL
    place = Place(url, config.model or "", (), config.secrets(), config.timeout)
    client = open_client(url, config)
    try:
        served = await probe(client, place)
        model = config.model or only_model(served, place)
    except BaseException:
        await client.close()
        raise
    place = replace(place, model=model, served=served.models)
    return OpenAICompatible(client, place, served, config, tokenizer)


class OpenAICompatible:
    """A `Provider` that calls one model of one server. Made by `open_openai_compatible`.

    Each `complete` is one try: the engine decides about another one, because the limits of
    the server are shared by all calls. What a server has refused once (a constraint, a
    temperature) is not sent to it again; the person is told.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        place: Place,
        served: Served,
        config: ProviderConfig,
        tokenizer: LocalTokenizer | None = None,
    ) -> None:
        self._client = client
        self._place = place
        self._kind = served.kind
        self._tokenizer = tokenizer or served.tokenizer
        self._notify = config.notify
        self._session_header = config.session_header
        self._cache_marks = config.cache_marks
        self._sends_cache_key = served.kind is ServerKind.OPENAI
        self._capabilities = replace(
            capabilities_of(served, place.model, config),
            takes_groups=self._sends_cache_key or config.cache_marks or bool(config.session_header),
        )
        self._constraints: dict[AnswerForm, Constraint] = {}
        self._length_name = (
            "max_completion_tokens" if served.kind is ServerKind.OPENAI else "max_tokens"
        )
        self._short_labels = ShortLabels(self._send) if served.holds_choices else None
        calibrates = self._capabilities.calibrated
        self._calibrated = CalibratedLabels(self._first_tokens, held=True) if calibrates else None
        self._sends_temperature = True
        self._has_answered = False
        self._refused_in_a_row = 0
        self._no_longer_served = False
        self._same_model = watched(client, place, served)
        self._hints: VLLMHints | None = None
        if served.kind is ServerKind.VLLM:
            self._hints = VLLMHints(
                served.prefix_cache,
                partial(fetch_metrics, client, place),
                lambda hint: config.notify(f"{place.url}: {hint}"),
            )

    @property
    def model(self) -> str:
        """Name of the model, as the server lists it or the person gave it."""
        return self._place.model

    @property
    def endpoint(self) -> str:
        """The base URL, without credentials."""
        return self._place.url

    @property
    def capabilities(self) -> Capabilities:
        """What this kind of server can do."""
        return self._capabilities

    @property
    def replaced(self) -> bool:
        """Whether the server has given the model up; see `Replaceable`."""
        swapped = self._same_model is not None and self._same_model.replaced
        return swapped or self._no_longer_served

    @property
    def batches(self) -> OpenAIBatches:
        """The batch API of the server, if it has one."""
        return OpenAIBatches(
            self._client,
            self._place,
            body=lambda request: self._body(request, self._constraint(request.answer)),
            read=lambda said, request: self._read(said, request, self._constraint(request.answer)),
        )

    async def complete(self, request: Request) -> Reply:
        """Answer one request; see `openai_errors` for what is raised when."""
        if isinstance(request.answer, Choice):
            if self._calibrated is not None:
                reply = await self._calibrated.complete(request, request.answer)
                if reply is not None:
                    return reply
            if self._short_labels is not None:
                return await self._short_labels.complete(request, request.answer)
        return await self._send(request)

    async def _send(self, request: Request) -> Reply:
        completion, left = await self._post(request)
        reply = self._read(completion, request, self._constraint(request.answer))
        if self._hints is not None:
            await self._hints.replied(reply.usage)
        return reply if left is None else replace(reply, allowance=left)

    async def _first_tokens(self, request: Request, form: Choice) -> tuple[Distribution, Usage]:
        """Return what vLLM says an opened answer may begin with, held to the labels."""
        labels = Choice(labels_after_opening(form))
        asked = replace(request, answer=labels, max_tokens=1)
        completion, _ = await self._post(asked, opened=True)
        found = read_first_tokens(completion)
        if self._hints is not None:
            await self._hints.replied(found[1])
        return found

    async def _post(
        self, request: Request, *, opened: bool = False
    ) -> tuple[object, Allowance | None]:
        """Return a completion, and what the reply says is left of the server's limits.

        opened: ask how the answer goes on behind `OPENING`, with log-probabilities. Nothing
            is returned of a server that does not give them.
        """
        body = self._body(request, self._constraint(request.answer))
        if opened:
            body = opened_answer(body)
        failure: CallError | ProviderError
        try:
            async with asyncio.timeout(self._place.timeout):
                response = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx.Response,
                    body=body,
                    options={"headers": self._headers(request)},
                )
            completion = response.json()
        except TimeoutError:
            failure = timed_out(self._place)
        except openai.OpenAIError as error:
            if isinstance(error, openai.APIStatusError):
                if opened and self._gives_no_logprobs(error):
                    return None, None
                if self._adapted(error, request.answer, body):
                    return await self._post(request, opened=opened)
            failure = self._failure(error)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            said = f"the reply of {self._place.url} is broken JSON: {error}"
            failure = ServerFailed(said, trouble=Trouble.FAILED)
        else:
            self._has_answered = True
            if self._same_model is not None:
                await self._same_model.confirm(fingerprint(completion))
            return completion, allowance(response.headers)
        # Raised outside the handler: the client's error may quote the key.
        raise failure

    def _gives_no_logprobs(self, error: openai.APIStatusError) -> bool:
        """Give calibration up where the server says that it has no log-probabilities."""
        if error.status_code not in (400, 422) or "logprobs" not in error_text(error).lower():
            return False
        if self._calibrated is not None:
            self._calibrated = None
            self._notify(f"{self.endpoint} gives no log-probabilities; labels are generated")
        return True

    async def tokenize(self, request: Request) -> Sequence[int] | None:
        """Return the tokens of a prompt, as the server or the file of the model tells them.

        None from a server that does not; one that has no such request is not asked again.
        """
        if self._tokenizer is None:
            return None
        messages, model = chat_messages(request), self._place.model
        if isinstance(self._tokenizer, LocalTokenizer):
            return await asyncio.to_thread(self._tokenizer.tokens, messages)
        try:
            return await tokens_of_chat(self._tokenizer, self._post_to_root, model, messages)
        except openai.APIStatusError as error:
            if error.status_code in (404, 405):
                self._tokenizer = None
                self._capabilities = replace(self._capabilities, tokenizes=False)
        except (openai.OpenAIError, ValueError):  # it is only asked for a better guess
            pass
        return None

    async def _post_to_root(self, path: str, body: Mapping[str, Any]) -> object:
        """Send to what is outside the `/v1` of the address."""
        url = self._place.url.removesuffix("/").removesuffix("/v1") + path
        return await self._client.post(url, cast_to=object, body=body)

    async def aclose(self) -> None:
        """Close the connections to the server."""
        await self._client.close()

    def __repr__(self) -> str:
        return f"OpenAICompatible(model={self.model!r}, endpoint={self.endpoint!r})"

    def _headers(self, request: Request) -> dict[str, str]:
        """Return what a router needs to send requests with one prefix to one server."""
        if self._session_header is None or request.group is None:
            return {}
        return {self._session_header: request.group}

    def _body(self, request: Request, limits: Constraint) -> dict[str, Any]:
        messages = chat_messages(request)
        body: dict[str, Any] = {
            "model": self._place.model,
            "messages": marked(messages, request) if self._cache_marks else messages,
            self._length_name: request.max_tokens + limits.extra_tokens,
            **limits.body,
        }
        if self._sends_temperature:
            body["temperature"] = request.temperature
        if request.seed is not None:
            body["seed"] = request.seed
        # A key of its own would part a row from those that share its instruction only.
        if self._sends_cache_key and request.shared:
            body["prompt_cache_key"] = request.group
        return body

    def _read(self, completion: object, request: Request, limits: Constraint) -> Reply:
        reply = read_reply(completion, request, limits)
        # Of vLLM only a reply shows it: it may leave the count out of those without any.
        if reply.usage.cached_tokens is not None and not self._capabilities.reports_cached_tokens:
            self._capabilities = replace(self._capabilities, reports_cached_tokens=True)
        return reply

    def _constraint(self, form: AnswerForm) -> Constraint:
        known = self._constraints.get(form)
        if known is None:
            known = self._constraints[form] = constraint(form, self._kind)
        return known

    def _adapted(
        self, error: openai.APIStatusError, form: AnswerForm, sent: Mapping[str, Any]
    ) -> bool:
        """Leave out what the server says it does not take; False when that is not it.

        Only what was in the request can be left out, so this ends. Other calls may have
        been on their way with the same request: the person is told once.
        """
        if error.status_code not in (400, 422) or is_context_overflow(error):
            return False
        said = error_text(error).lower()
        if "max_completion_tokens" in said and "max_tokens" in sent:
            self._length_name = "max_completion_tokens"
            return True
        if "prompt_cache_key" in said and "prompt_cache_key" in sent:
            self._sends_cache_key = False
            return True
        if "temperature" in said and "temperature" in sent:
            if self._sends_temperature:
                self._sends_temperature = False
                self._notify(f"{self.model} takes no temperature; it answers at its own")
            return True
        if any(name in said for name in _NAMES_CONSTRAINT) and constraint_names(sent):
            if self._constraint(form).body:
                self._constraints[form] = Constraint()
                self._notify(
                    f"{self.endpoint} does not hold answers to the type asked for; those "
                    f"that do not fit become NULL. It says: {self._place.clean(said)}"
                )
            return True
        return False

    def _failure(self, error: openai.OpenAIError) -> CallError | ProviderError:
        """Return the error for this call, or for the statement when calls fail alike."""
        failure = translate(error, self._place)
        if isinstance(failure, ContextWindowExceeded) and self._hints is not None:
            self._hints.overflowed(self._capabilities.context_window)
        if isinstance(failure, ModelNotFound) and self._place.model in self._place.served:
            self._no_longer_served = True
        if isinstance(failure, ServerFailed) and is_unexplained_refusal(error):
            self._refused_in_a_row += 1
            if not self._has_answered and self._refused_in_a_row >= _STREAK_THAT_STOPS:
                return RequestRefused(str(failure))
        return failure


def open_client(url: str, config: ProviderConfig) -> openai.AsyncOpenAI:
    """Return a client for one server, without retries and redirects of its own."""
    most = config.concurrency or MOST_CONCURRENCY
    connections = most + _CONNECTIONS_BEYOND_CALLS
    # The class of the limits is httpx's or httpx2's, as the installed openai has it.
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
        max_connections=connections, max_keepalive_connections=connections
    )
    timeout = openai.Timeout(config.timeout, connect=min(config.timeout, 10.0))
    # Without a key of ours the SDK would take OPENAI_API_KEY, whoever the server is.
    key = config.api_key.reveal() if config.api_key else "none"
    basic = config.authorization
    authorization = None if basic is None else {"Authorization": basic.reveal()}
    http_client = openai.DefaultAioHttpClient(
        limits=limits,
        timeout=timeout,
        # Texts go to the address that was given, and nowhere else: not where an answer
        # points to, and what goes to this machine not by way of a proxy.
        follow_redirects=config.follow_redirects,
        trust_env=not Address.parse(url).is_loopback,
    )
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=key,
        default_headers=authorization,
        timeout=timeout,
        max_retries=0,  # what is worth another try, `engine.traffic` knows
        # httpx's own connections cost time in proportion to their number, and so
        # fall behind a fast server at 64 calls in flight: benchmarks/http_client.
        http_client=http_client,
    )


def only_model(served: Served, place: Place, setting: str = "llm_model") -> str:
    """Return the one model that a server serves. Raises `ModelNotFound` unless there is one."""
    if len(served.models) == 1:
        return served.models[0]
    if not served.models:
        raise ModelNotFound(
            f"{place.url} does not say which models it serves. Is it the address of an "
            "OpenAI-compatible API, which usually ends in /v1? If it is, name the model: "
            f"SET {setting} = '...'"
        )
    shown = ", ".join(f"'{name}'" for name in served.models[:10])
    more = ", ..." if len(served.models) > 10 else ""
    raise ModelNotFound(
        f"{place.url} serves {len(served.models)} models; "
        f"choose one with SET {setting} = '...': {shown}{more}"
    )
