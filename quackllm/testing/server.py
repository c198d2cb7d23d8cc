"""A local HTTP server that speaks OpenAI's chat completions and embeddings, without a model."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self
from zlib import crc32

from quackllm.engine.loop import LoopThread
from quackllm.engine.providers.base import Reply, Request
from quackllm.testing.batches import FakeBatches
from quackllm.testing.compact_schemas import schema_of
from quackllm.testing.embeddings import embedding_requests, embeddings_body, tokens_of
from quackllm.testing.fake_provider import deterministic_answer, estimated_usage
from quackllm.testing.http_faults import context_exceeded_body, error_body
from quackllm.testing.http_protocol import HttpProtocol, HttpRequest, HttpResponse
from quackllm.testing.rules import ArmedRule, Window
from quackllm.udfs.base import AnswerForm, Choice, FreeText, JsonAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from quackllm.testing.http_faults import HttpFault

Flavor = Literal["openai", "vllm", "llama.cpp", "llama-cpp-python", "ollama", "unconstrained"]

_OWNERS = {
    "vllm": "vllm",
    "llama.cpp": "llamacpp",
    "llama-cpp-python": "me",
    "ollama": "library",
    "openai": "openai",
}
_LISTED_NUMBER = re.compile(r"(?<![\[\d{,-])-?\d+(?![\d,}\]-])")
_TOKEN = re.compile(r"\0|\d|[^\d\0]{1,4}")
_GRAMMAR_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Received:
    """One request that the server has seen; body is the JSON of it, {} without one.

    raw: the body as it came.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    raw: bytes = b""


class FakeServer:
    """A real HTTP server on 127.0.0.1 in a thread of its own, for tests of clients.

        with FakeServer(flavor="vllm") as server:
            con = quackllm.connect(base_url=server.base_url)

    Answers are those of `FakeProvider`: they depend on the seed, the system message
    and the user message only, and keep to the constraint of the request as far as
    the server that it plays would.

    flavor: whose habits it has: how it introduces itself in `/v1/models`, which
        constraints it understands (others are ignored, as real servers do) and how it
        words a prompt that is too long. 'unconstrained' refuses every constraint.
    models: the names served; the first one is served under any name by llama.cpp only.
    context_window: tokens (four characters each) that a prompt may take.
    api_key: when given, requests without it get 401.
    answer: a function of the request in place of the deterministic answers.
    faults: rules, tried in order on every completion and request for embeddings.
    latency: seconds before each completion is answered.
    metrics: what `/metrics` answers, for the flavor 'vllm'; 404 without.
    keep: number of latest requests kept in `received`.
    batch_seconds: what a batch of `/v1/batches` takes; without it there is no batch API.
    counts_cached: whether replies say how many prompt tokens were cached.
    rate_limit: (requests, seconds): completions answered in any window of so many seconds;
        more get 429. What is left is told in x-ratelimit headers.

    `version` and `root`, which names the weights, are what the flavor 'vllm' says of itself; its
    replies have a fingerprint of both. They may be changed, as `models` may.

    `calls` counts completions and requests for embeddings, `abandoned` connections that a
    client closed while it was owed a response, `connections` those that are open.
    """

    def __init__(
        self,
        *,
        flavor: Flavor = "openai",
        models: Sequence[str] = ("fake-model",),
        context_window: int = 8192,
        api_key: str | None = None,
        seed: int = 0,
        answer: Callable[[Request], str | Reply] | None = None,
        faults: Sequence[HttpFault] = (),
        latency: float = 0.0,
        metrics: str | None = None,
        port: int = 0,
        keep: int = 1000,
        rate_limit: tuple[int, float] | None = None,
        counts_cached: bool = True,
        batch_seconds: float | None = None,
    ) -> None:
        self.flavor = flavor
        self.models = tuple(models)
        self.version, self.root = "0.32.0", "fake-weights"
        self.context_window = context_window
        self.calls = 0
        self.abandoned = 0
        self.received: deque[Received] = deque(maxlen=keep)
        self._api_key = api_key
        self._seed = seed
        self._answer = answer
        self._faults = tuple(
            ArmedRule(rule, f"fault {position} {seed}") for position, rule in enumerate(faults)
        )
        self._latency = latency
        self._metrics = metrics
        self._port = port
        self._counts_cached = counts_cached
        self._window = None if rate_limit is None else Window(*rate_limit)
        self.batches = None if batch_seconds is None else FakeBatches(self._chat, batch_seconds)
        self._connections: set[HttpProtocol] = set()
        self._thread = LoopThread()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """The address for clients, up to and with `/v1`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def connections(self) -> int:
        """Number of connections that are open now."""
        return len(self._connections)

    def __enter__(self) -> Self:
        self.reopen()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, cut all connections off, end the thread. May be called twice."""
        if self._server is not None:
            self._thread.run(self._shut())
        self._thread.close()

    def reopen(self) -> None:
        """Listen, after `close` again: on the same port, as a server that was restarted."""
        self._thread = LoopThread()
        self._thread.run(self._open())

    async def _open(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpProtocol(self._handle, self._connections, self._count_abandoned),
            "127.0.0.1",
            self._port,
            backlog=1024,
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)
        self._server = None

    def _count_abandoned(self) -> None:
        self.abandoned += 1

    def _handle(self, request: HttpRequest) -> HttpResponse:
        body = json.loads(request.body) if request.body.startswith(b"{") else {}
        self.received.append(
            Received(request.method, request.path, request.headers, body, request.body)
        )
        if self._api_key is not None:
            given = request.headers.get("authorization", "")
            if given != f"Bearer {self._api_key}":
                message = f"Incorrect API key provided: {given.removeprefix('Bearer ')}"
                return _refuse(401, message, "invalid_request_error", "invalid_api_key")
        route = (request.method, request.path.partition("?")[0])
        if route == ("POST", "/v1/chat/completions"):
            return self._chat(body)
        if route == ("POST", "/v1/embeddings"):
            return self._embed(body)
        if self.batches is not None and (found := self.batches.handle(request)) is not None:
            return found
        if route == ("GET", "/v1/models"):
            return HttpResponse(200, json.dumps(self._model_list()).encode())
        if route == ("GET", "/props") and self.flavor == "llama.cpp":
            props = {"default_generation_settings": {"n_ctx": self.context_window}}
            return HttpResponse(200, json.dumps(props).encode())
        if request.method == "POST" and (said := _tokenizer(self.flavor, route[1], body)):
            return HttpResponse(200, json.dumps(said).encode())
        if route == ("GET", "/version") and self.flavor == "vllm":
            return HttpResponse(200, json.dumps({"version": self.version}).encode())
        if route == ("GET", "/metrics") and self._metrics is not None:
            return HttpResponse(200, self._metrics.encode(), {"content-type": "text/plain"})
        return _refuse(404, f"no route {request.path}", "not_found_error", 404)

    def _model_list(self) -> dict[str, Any]:
        owner = _OWNERS.get(self.flavor, "someone")
        cards: list[dict[str, Any]] = []
        for name in self.models:
            card = {"id": name, "object": "model", "created": 0, "owned_by": owner}
            if self.flavor == "vllm":
                card |= {"max_model_len": self.context_window, "root": self.root}
            cards.append(card)
        return {"object": "list", "data": cards}

    def _embed(self, body: Mapping[str, Any]) -> HttpResponse:
        refusal, told = self._admitted(body)
        if refusal is not None:
            return refusal
        requests = embedding_requests(body)
        longest = max(map(tokens_of, requests), default=0)
        if longest > self.context_window:
            text = context_exceeded_body(self.flavor, longest, self.context_window)
            return HttpResponse(400, text.encode())
        # Ollama sent lists of numbers, whatever was asked for, for a long time.
        in_base64 = body.get("encoding_format") == "base64" and self.flavor != "ollama"
        said = embeddings_body(body["model"], requests, self._seed, in_base64=in_base64)
        return self._or_fault(_together(requests), json.dumps(said).encode(), told)

    def _chat(self, body: Mapping[str, Any]) -> HttpResponse:
        refusal, told = self._admitted(body)
        if refusal is not None:
            return refusal
        name = body.get("model", "")
        if self.flavor == "unconstrained" and "response_format" in body:
            message = "Unrecognized request argument supplied: response_format"
            return _refuse(400, message, "invalid_request_error", None)
        request = _as_request(body, self.flavor)
        reply = self._reply(request)
        tokens = reply.usage.prompt_tokens
        if tokens > self.context_window:
            text = context_exceeded_body(self.flavor, tokens, self.context_window)
            return HttpResponse(400, text.encode())
        completion = _completion(name, reply)
        if self.flavor == "vllm":
            digest = crc32(self.root.encode())
            completion["system_fingerprint"] = f"vllm-{self.version}-{digest:08x}"
        if not self._counts_cached:
            completion["usage"]["prompt_tokens_details"] = None
        if body.get("logprobs"):
            completion["choices"][0]["logprobs"] = _logprobs(request, reply.text)
        return self._or_fault(request, json.dumps(completion).encode(), told)

    def _admitted(self, body: Mapping[str, Any]) -> tuple[HttpResponse | None, dict[str, str]]:
        """Count a call; return why it is not answered, if it is not, and what headers tell."""
        self.calls += 1
        allowed, told = self._allowed()
        if not allowed:
            text = error_body("Rate limit reached", "requests", "rate_limit_exceeded")
            return HttpResponse(429, text.encode(), told), told
        name = body.get("model", "")
        if name not in self.models and self.flavor != "llama.cpp":
            message = f"The model `{name}` does not exist."
            return _refuse(404, message, "NotFoundError", "model_not_found"), told
        return None, told

    def _or_fault(self, request: Request, answer: bytes, told: dict[str, str]) -> HttpResponse:
        for fault in self._faults:
            if fault.hits(request, self.calls):
                return fault.rule.response(answer, self.base_url)
        return HttpResponse(200, answer, told, delay=self._latency)

    def _allowed(self) -> tuple[bool, dict[str, str]]:
        """Tell whether the rate limit has room, and what headers say about it."""
        if self._window is None:
            return True, {}
        allowed, left, reset = self._window.take()
        told = {
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }
        return allowed, told if allowed else {**told, "retry-after": f"{reset:.3f}"}

    def _reply(self, request: Request) -> Reply:
        if self._answer is None:
            said: str | Reply = deterministic_answer(request, self._seed)
        else:
            said = self._answer(request)
        if isinstance(said, Reply):
            return said
        return Reply(said, estimated_usage(request, said))


def _together(requests: Sequence[Request]) -> Request:
    """Put the texts of one request for embeddings together, for faults to look at."""
    texts = [json.loads(request.fields)["text"] for request in requests]
    return replace(requests[0], fields=json.dumps({"texts": texts}))


def _refuse(status: int, message: str, kind: str, code: str | int | None) -> HttpResponse:
    return HttpResponse(status, error_body(message, kind, code).encode())


def _completion(model: str, reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "logprobs": None,
                "finish_reason": "length" if reply.truncated else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        },
    }


def _logprobs(request: Request, text: str) -> dict[str, Any]:
    """Return the log-probabilities of first tokens: the answer's is the highest.

    Of a row without content all labels are as likely, so that the answer is also the one
    that rises most above it.
    """
    labels = request.answer.labels if isinstance(request.answer, Choice) else (text,)
    says_nothing = not any(json.loads(request.fields).values())
    top = [
        {"token": label, "logprob": -0.1 if label == text and not says_nothing else -2.0}
        for label in labels
    ]
    first = next(entry for entry in top if entry["token"] == text)
    return {"content": [{**first, "top_logprobs": top}]}


def _as_request(body: Mapping[str, Any], flavor: Flavor) -> Request:
    """Read a chat completion back into the request that a provider would have seen."""
    said: dict[str, str] = {}
    for message in body["messages"]:  # an answer that was rejected comes after the row
        said.setdefault(message["role"], _text_of(message["content"]))
    fields = said.get("user", "")
    if not fields.startswith("{"):
        fields = json.dumps({"user": fields})
    return Request(
        instruction=said.get("system", ""),
        fields=fields,
        answer=_constraint(body, flavor),
        temperature=body.get("temperature", 0.0),
        seed=body.get("seed"),
        max_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or 0,
    )


def _text_of(content: str | list[Mapping[str, Any]]) -> str:
    """Return the text of a message, which may come in parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _constraint(body: Mapping[str, Any], flavor: Flavor) -> AnswerForm:
    """Return the form that a server of this flavor holds the answer to."""
    structured = body.get("structured_outputs") or {}
    if flavor == "vllm" and "choice" in structured:
        return Choice(tuple(structured["choice"]))
    if flavor == "vllm" and "json" in structured:
        return JsonAnswer(json.dumps(structured["json"]))
    if flavor == "vllm" and "regex" in structured:
        schema = schema_of(structured["regex"])
        return _listed_numbers(structured["regex"]) if schema is None else JsonAnswer(schema)
    if flavor == "llama.cpp" and "[0-9]" in body.get("grammar", ""):
        return _listed_numbers(body["grammar"])
    if flavor == "llama.cpp" and "grammar" in body:
        return Choice(tuple(_grammar_texts(body["grammar"])))
    if flavor == "llama.cpp" and "json_schema" in body:
        return JsonAnswer(json.dumps(body["json_schema"]))
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return JsonAnswer(json.dumps(wanted["json_schema"]["schema"]))
    return FreeText()


def _tokenizer(flavor: Flavor, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Answer a question about tokens as a server of this flavor does; None for any other."""
    if (flavor, path) == ("vllm", "/tokenize"):
        return _tokenized(_in_template(body))
    if (flavor, path) == ("llama.cpp", "/apply-template"):
        return {"prompt": _in_template(body)}
    if (flavor, path) == ("llama.cpp", "/tokenize"):
        return _tokenized(body["content"])
    if (flavor, path) == ("llama-cpp-python", "/extras/tokenize"):
        return _tokenized(body["input"])
    return None


def _in_template(body: Mapping[str, Any]) -> str:
    return "".join(f"\0{message['content']}" for message in body["messages"])


def _tokenized(text: str) -> dict[str, Any]:
    """Return tokens: a mark for the beginning of a message, a digit, or up to four characters."""
    tokens = [crc32(part.encode()) for part in _TOKEN.findall(text)]
    return {"count": len(tokens), "tokens": tokens}


def _grammar_texts(grammar: str) -> list[str]:
    """Return the quoted texts of a GBNF grammar that is one alternative of texts."""
    return [json.loads(f'"{text}"') for text in _GRAMMAR_TEXT.findall(grammar)]


def _listed_numbers(pattern: str) -> Choice:
    """Return the whole numbers that a pattern of numbers lists, which are some of its texts."""
    return Choice(tuple(_LISTED_NUMBER.findall(pattern)) or ("0",))
