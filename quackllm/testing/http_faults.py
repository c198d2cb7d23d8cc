"""How model servers fail over HTTP, as rules for a `FakeServer`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from quackllm.testing.http_protocol import HttpResponse
from quackllm.testing.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

_Ending = Literal["complete", "hang", "reset", "truncate"]


@dataclass(frozen=True)
class HttpFault(Rule):
    """A rule that makes chat completions of a `FakeServer` fail.

    status, body, headers: the response sent instead of an answer. Without a body,
        the ordinary answer is sent.
    ending: how the response ends: 'complete'; 'hang' sends nothing; 'reset' cuts the
        connection off in the middle of the body; 'truncate' sends half of the JSON
        as if it were all.

    The class methods build the faults that real servers show.
    """

    status: int = 200
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ending: _Ending = "complete"

    @classmethod
    def failing(cls, status: int = 500, message: str = "it broke", **rule: Any) -> HttpFault:
        """Answer with an error status and a body in the form of OpenAI's."""
        return cls(status=status, body=error_body(message, "server_error", status), **rule)

    @classmethod
    def rate_limited(cls, retry_after: float | None = None, **rule: Any) -> HttpFault:
        """Answer 429, with a Retry-After header when seconds are given."""
        headers = () if retry_after is None else (("retry-after", str(retry_after)),)
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
    def no_choices(cls, **rule: Any) -> HttpFault:
        """Answer 200 with an empty list of choices."""
        return cls(body=json.dumps({"object": "chat.completion", "choices": []}), **rule)

    @classmethod
    def wrong_shape(cls, **rule: Any) -> HttpFault:
        """Answer 200 with JSON that is no chat completion."""
        return cls(body='{"result": ["not", "a", "completion"]}', **rule)

    @classmethod
    def refusal(cls, **rule: Any) -> HttpFault:
        """Answer as OpenAI does when the model declines the content."""
        message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return cls(body=json.dumps({"object": "chat.completion", "choices": [choice]}), **rule)

    @classmethod
    def context_exceeded(
        cls, server: Literal["openai", "vllm", "llama.cpp"] = "openai", **rule: Any
    ) -> HttpFault:
        """Refuse the prompt as too long, in the words of one of the servers."""
        return cls(status=400, body=context_exceeded_body(server, 9000, 4096), **rule)

    def response(self, answer: bytes) -> HttpResponse:
        """Return what is sent in the place of the ordinary answer."""
        body = answer if self.body is None else self.body.encode()
        if self.ending == "truncate":
            return HttpResponse(self.status, body[: len(body) // 2], dict(self.headers))
        return HttpResponse(self.status, body, dict(self.headers), ending=self.ending)


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
