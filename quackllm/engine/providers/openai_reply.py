"""What a chat completion says, read from JSON that any server may have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.base import Reply, Usage
from quackllm.engine.providers.prompts import strip_reasoning
from quackllm.errors import InvalidAnswer, ServerFailed, Trouble

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Request
    from quackllm.engine.providers.calibration import Distribution
    from quackllm.engine.providers.constraints import Constraint

_LONGEST_QUOTE = 80
_HELD_FROM = -9000.0
"""The log-probability, or less, that vLLM writes for a token that was masked."""


def read_reply(completion: object, request: Request, limits: Constraint) -> Reply:
    """Return the reply in a completion.

    Raises `ServerFailed` for what is no completion, and `InvalidAnswer` where there is
    no answer in it: no choices, different ones (one was asked for), a refusal, a filter,
    nothing but reasoning.
    """
    choices = _member(completion, "choices")
    if not isinstance(choices, list):
        raise ServerFailed(
            f"the server's reply is no completion: {repr(completion)[:_LONGEST_QUOTE]}",
            trouble=Trouble.FAILED,
        )
    if not choices:
        said = "the server sent no answer (an empty list of choices)"
        raise InvalidAnswer(said, trouble=Trouble.FAILED)
    contents = [_member(_member(choice, "message"), "content") for choice in choices]
    if any(content != contents[0] for content in contents):
        said = f"the server sent {len(choices)} different answers to one question"
        raise InvalidAnswer(said, trouble=Trouble.FAILED)
    message, finish = _member(choices[0], "message"), _member(choices[0], "finish_reason")
    if refusal := _member(message, "refusal"):
        raise InvalidAnswer(f"the model refused: {refusal}")
    if finish == "content_filter":
        raise InvalidAnswer("the server's content filter withheld the answer")
    usage = read_usage(_member(completion, "usage"))
    text = _member(message, "content")
    answer = strip_reasoning(text) if isinstance(text, str) else ""
    if not answer and finish == "length":
        raise InvalidAnswer(
            f"the model was still reasoning after {usage.completion_tokens} tokens: "
            "raise max_tokens, or switch its reasoning off"
        )
    if not isinstance(text, str):
        raise InvalidAnswer("the server sent an answer without text", trouble=Trouble.FAILED)
    return Reply(limits.unwrap(answer, request.answer), usage, truncated=finish == "length")


def first_distribution(choice: object) -> Distribution:
    """Return what the first token of a choice could have been; [] where that is not told.

    Tokens that the server held the model from, and those it gives no number, are left out.
    """
    content = _member(_member(choice, "logprobs"), "content")
    first = content[0] if isinstance(content, list) and content else None
    listed = _member(first, "top_logprobs")
    entries = listed if isinstance(listed, list) else []
    found = [(_member(entry, "token"), _member(entry, "logprob")) for entry in entries]
    return [
        (token, float(logprob))
        for token, logprob in found
        if isinstance(token, str) and isinstance(logprob, int | float) and logprob > _HELD_FROM
    ]


def read_first_tokens(completion: object) -> tuple[Distribution, Usage]:
    """Return what the first token of a completion could have been, and the tokens of it."""
    choices = _member(completion, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return first_distribution(choice), read_usage(_member(completion, "usage"))


def fingerprint(completion: object) -> str | None:
    """Return what the server writes of itself into a completion, None where it does not."""
    said = _member(completion, "system_fingerprint")
    return said if isinstance(said, str) else None


def read_usage(usage: object) -> Usage:
    """Return the tokens that a server reports; what it does not report is 0, or None.

    A prompt of which more was cached than it had tokens is no report of cached tokens.
    """
    prompt = _count(_member(usage, "prompt_tokens")) or 0
    cached = _count(_member(_member(usage, "prompt_tokens_details"), "cached_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=_count(_member(usage, "completion_tokens")) or 0,
        cached_tokens=cached if cached is None or cached <= prompt else None,
    )


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
