"""How model servers fail over HTTP, as rules for a `FakeServer`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Literal

from quackllm.testing.http_protocol import HttpResponse
from quackllm.testing.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

_Ending = Literal["complete", "hang", "reset", "truncate"]

UNKNOWN_HOST = "http://no-such-host.invalid/v1"
"""An address whose name no resolver knows (RFC 6761)."""


@dataclass(frozen=True)
class HttpFault(Rule):
    """A rule that makes chat completions of a `FakeServer` fail.

    status, body, headers: the response sent instead of an answer. Without a body,
        the ordinary answer is sent.
    ending: how the response ends: 'complete'; 'hang' sends nothing; 'reset' cuts the
        connection off in the middle of the body; 'truncate' sends half of the JSON
        as if it were all.
    drip: seconds over which the body is sent, in small pieces.
    redirect: answer 307 to an address that cannot be reached, so that a client that
        follows it meets the failure on its own side: 'tls' is this server's port, which
        knows no TLS, 'dns' a name that does not resolve. quackllm follows no redirects
        unless `ProviderConfig.follow_redirects` has it do so.

    The class methods build the faults that real servers show.
    """

    status: int = 200
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ending: _Ending = "complete"
    drip: float = 0.0
    redirect: Literal["tls", "dns"] | None = None

    @classmethod
    def failing(cls, status: int = 500, message: str = "it broke", **rule: Any) -> HttpFault:
        """Answer with an error status and a body in the form of OpenAI's."""
        return cls(status=status, body=error_body(message, "server_error", status), **rule)

    @classmethod
    def rate_limited(
        cls, retry_after: float | None = None, *, as_date: bool = False, **rule: Any
    ) -> HttpFault:
        """Answer 429, with a Retry-After header when seconds are given.

        as_date: as an HTTP date, `retry_after` seconds from now.
        """
        headers: tuple[tuple[str, str], ...] = ()
        if retry_after is not None:
            moment = datetime.now(UTC) + timedelta(seconds=retry_after)
            value = format_datetime(moment, usegmt=True) if as_date else str(retry_after)
            headers = (("retry-after", value),)
        body = error_body("Rate limit reached", "requests", "rate_limit_exceeded")
        return cls(status=429, body=body, headers=headers, **rule)

    @classmethod
    def hanging(cls, **rule: Any) -> HttpFault:
        """Take the request and never answer."""
        return cls(ending="hang", **rule)

    @classmethod
    def reset(cls, **rule: Any) -> HttpFault:
        """Cut the connection off in the middle of the body."""
        return cls(ending="reset", **rule)

    @classmethod
    def truncated_json(cls, **rule: Any) -> HttpFault:
        """Send half of the JSON of the answer as a whole response."""
        return cls(ending="truncate", **rule)

    @classmethod
    def slow_drip(cls, seconds: float, **rule: Any) -> HttpFault:
        """Send the answer in small pieces over some seconds."""
        return cls(drip=seconds, **rule)

    @classmethod
    def tls_failure(cls, **rule: Any) -> HttpFault:
        """Send the client to where its TLS handshake fails."""
        return cls(status=307, body="", redirect="tls", **rule)

    @classmethod
    def dns_failure(cls, **rule: Any) -> HttpFault:
        """Send the client to a host that it cannot resolve."""
        return cls(status=307, body="", redirect="dns", **rule)

    @classmethod
    def no_choices(cls, **rule: Any) -> HttpFault:
        """Answer 200 with an empty list of choices."""
        return cls(body=json.dumps({"object": "chat.completion", "choices": []}), **rule)

    @classmethod
    def duplicate_choices(cls, **rule: Any) -> HttpFault:
        """Answer 200 with two choices that contradict each other."""
        return cls(body=_completion({"content": "true"}, {"content": "false"}), **rule)

    @classmethod
    def wrong_shape(cls, **rule: Any) -> HttpFault:
        """Answer 200 with JSON that is no chat completion."""
        return cls(body='{"result": ["not", "a", "completion"]}', **rule)

    @classmethod
    def saying(cls, text: str, **rule: Any) -> HttpFault:
        """Answer 200 with a text of one's own, whatever form was asked for."""
        return cls(body=_completion({"content": text}), **rule)

    @classmethod
    def empty_answer(cls, **rule: Any) -> HttpFault:
        """Answer with an empty text."""
        return cls.saying("", **rule)

    @classmethod
    def wrong_schema(cls, **rule: Any) -> HttpFault:
        """Answer with a JSON document that nobody asked for."""
        return cls.saying('{"unexpected": [1, "two", null]}', **rule)

    @classmethod
    def wrong_language(cls, **rule: Any) -> HttpFault:
        """Answer in another language than the labels are in."""
        return cls.saying("はい、そうです。", **rule)

    @classmethod
    def refusal(cls, **rule: Any) -> HttpFault:
        """Answer as OpenAI does when the model declines the content."""
        said = {"content": None, "refusal": "I cannot help with that."}
        return cls(body=_completion(said), **rule)

    @classmethod
    def context_exceeded(
        cls, server: Literal["openai", "vllm", "llama.cpp"] = "openai", **rule: Any
    ) -> HttpFault:
        """Refuse the prompt as too long, in the words of one of the servers."""
        return cls(status=400, body=context_exceeded_body(server, 9000, 4096), **rule)

    def response(self, answer: bytes, base_url: str) -> HttpResponse:
        """Return what is sent in the place of the ordinary answer by the server at a URL."""
        body = answer if self.body is None else self.body.encode()
        headers = dict(self.headers)
        if self.redirect is not None:
            root = UNKNOWN_HOST if self.redirect == "dns" else base_url.replace("http:", "https:")
            headers["location"] = root + "/chat/completions"
        if self.ending == "truncate":
            return HttpResponse(self.status, body[: len(body) // 2], headers)
        return HttpResponse(self.status, body, headers, drip=self.drip, ending=self.ending)


def every_fault(
    rate: float, *, retry_after: float = 1.0, drip: float = 0.5, **rule: Any
) -> list[HttpFault]:
    """Return one rule per kind of fault; together they hit a share of the tries.

    rate: of all tries, those that meet a fault; each kind is as frequent as the others.
        Decided anew for each try, so a second try may go through.
    retry_after, drip: seconds of the faults of those names.
    rule: what else all of them have in common, such as `burst`.
    """
    kinds = [
        HttpFault.rate_limited(),
        HttpFault.rate_limited(retry_after),
        HttpFault.failing(500),
        HttpFault.failing(503),
        HttpFault.hanging(),
        HttpFault.reset(),
        HttpFault.truncated_json(),
        HttpFault.wrong_schema(),
        HttpFault.wrong_shape(),
        HttpFault.empty_answer(),
        HttpFault.refusal(),
        HttpFault.wrong_language(),
        HttpFault.duplicate_choices(),
        HttpFault.no_choices(),
        HttpFault.slow_drip(drip),
        HttpFault.tls_failure(),
        HttpFault.dns_failure(),
    ]
    share = rate / len(kinds)
    # Rules are tried in order: each gets its share of what those before it have left.
    return [
        replace(kind, rate=share / (1 - position * share), anew=True, **rule)
        for position, kind in enumerate(kinds)
    ]


def _completion(*messages: Mapping[str, Any]) -> str:
    """Return a chat completion with a choice for each message."""
    choices = [
        {"index": index, "finish_reason": "stop", "message": {"role": "assistant", **message}}
        for index, message in enumerate(messages)
    ]
    return json.dumps({"object": "chat.completion", "choices": choices})


def error_body(
    message: str, kind: str, code: str | int | None, more: Mapping[str, Any] | None = None
) -> str:
    """Return an error as OpenAI-compatible servers write it."""
    return json.dumps({"error": {"message": message, "type": kind, "code": code, **(more or {})}})


def context_exceeded_body(server: str, tokens: int, window: int) -> str:
    """Return what a server says to a prompt of `tokens` when `window` is all it takes."""
    if server == "llama.cpp":
        return error_body(
            f"request ({tokens} tokens) exceeds the available context size ({window} tokens)",
            "exceed_context_size_error",
            400,
            {"n_prompt_tokens": tokens, "n_ctx": window},
        )
    text = f"This model's maximum context length is {window} tokens. However, your "
    if server == "vllm":
        text += f"prompt contains at least {tokens} input tokens. Please reduce its length."
        return error_body(text, "BadRequestError", 400, {"param": "input_tokens"})
    text += f"messages resulted in {tokens} tokens."
    return error_body(text, "invalid_request_error", "context_length_exceeded")
