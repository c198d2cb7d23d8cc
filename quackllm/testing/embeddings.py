"""What a `FakeServer` answers to a request for embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from quackllm.engine.providers.base import Request
from quackllm.testing.fake_provider import DIMENSIONS, deterministic_answer
from quackllm.udfs.base import Embedding
from quackllm.udfs.vectors import unpacked

CHARS_PER_TOKEN = 4


def embedding_requests(body: Mapping[str, Any]) -> list[Request]:
    """Read a request for embeddings back into one request per text."""
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    form = Embedding(body.get("dimensions", DIMENSIONS))
    return [
        Request("", json.dumps({"text": text}), form, temperature=0.0, max_tokens=0)
        for text in texts
    ]


def tokens_of(request: Request) -> int:
    """Count the tokens of a text, at four characters each."""
    return len(request.fields) // CHARS_PER_TOKEN + 1


def embeddings_body(
    model: str, requests: Sequence[Request], seed: int, *, in_base64: bool
) -> dict[str, Any]:
    """Return the body of the response: the vectors that a `FakeProvider` would give."""
    texts = [deterministic_answer(request, seed) for request in requests]
    vectors = [text if in_base64 else unpacked(text).tolist() for text in texts]
    tokens = sum(map(tokens_of, requests))
    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
