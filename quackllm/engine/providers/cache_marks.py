"""What tells a server, or what is before it, which requests share a prefix and how long it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.prompts import without_control_tokens

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Request

MARK = {"type": "ephemeral"}
"""The value of `cache_control`, as Anthropic's API has it and gateways pass it on."""


def marked(messages: Sequence[dict[str, str]], request: Request) -> list[dict[str, Any]]:
    """Return the messages with a mark where what other requests begin with ends.

    That is the instruction, and of a row in a group the part that the group shares. The
    texts are the same as without marks.
    """
    return [_marked(message, request) for message in messages]


def _marked(message: dict[str, str], request: Request) -> dict[str, Any]:
    content = message["content"]
    if message["role"] == "system":
        return {**message, "content": [_part(content, ends=True)]}
    shared = None if request.row_first else request.shared  # others ask about the same row
    prefix = without_control_tokens(request.fields[:shared])
    if message["role"] != "user" or not prefix or not content.startswith(prefix):
        return dict(message)
    parts = [_part(prefix, ends=True), _part(content[len(prefix) :], ends=False)]
    return {**message, "content": parts}


def _part(text: str, *, ends: bool) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "text", "text": text}
    return {**part, "cache_control": MARK} if ends else part
