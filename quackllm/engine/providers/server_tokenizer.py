"""The tokens of a prompt, from the tokenizer of the server that will answer it.

Each kind of server has its own way; hosted APIs and Ollama have none.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    Post = Callable[[str, Mapping[str, Any]], Awaitable[object]]
    """Sends a JSON document to a path of the server's root; returns the one that it sends."""


class TokenizerApi(Enum):
    """Which requests tell the tokens of a chat."""

    VLLM = "vllm"
    """`/tokenize` takes a chat."""
    LLAMA_SERVER = "llama.cpp"
    """`/apply-template` makes a chat a text, `/tokenize` takes a text."""
    LLAMA_CPP_PYTHON = "llama-cpp-python"
    """`/extras/tokenize` takes a text; the template of a chat is not told."""


async def tokens_of_chat(
    api: TokenizerApi, post: Post, model: str, messages: Sequence[Mapping[str, str]]
) -> list[int] | None:
    """Return the tokens of a chat; None where the replies are not those of the API.

    Of llama-cpp-python's server without those of the template, a few for each message. Raises
    what `post` does.
    """
    if api is TokenizerApi.VLLM:
        return _tokens(await post("/tokenize", {"model": model, "messages": list(messages)}))
    if api is TokenizerApi.LLAMA_CPP_PYTHON:
        text = "\n".join(message["content"] for message in messages)
        return _tokens(await post("/extras/tokenize", {"model": model, "input": text}))
    said = await post("/apply-template", {"messages": list(messages)})
    prompt = said.get("prompt") if isinstance(said, dict) else None
    if not isinstance(prompt, str):
        return None
    asked = {"content": prompt, "add_special": True, "parse_special": True}
    return _tokens(await post("/tokenize", asked))


def _tokens(said: object) -> list[int] | None:
    tokens = said.get("tokens") if isinstance(said, dict) else None
    return tokens if isinstance(tokens, list) else None
