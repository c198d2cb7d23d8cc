"""What is sent to a model for a request, and what is cut off its answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Request

_REASONING = re.compile(r"\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)


def chat_messages(request: Request) -> list[dict[str, str]]:
    """Return the messages: the instruction, which all rows share, and then the row."""
    return [
        {"role": "system", "content": request.instruction},
        {"role": "user", "content": request.fields},
    ]


def strip_reasoning(text: str) -> str:
    """Cut off a leading <think> block, also one that the token limit has left open."""
    found = _REASONING.match(text)
    return text[found.end() :] if found else text
