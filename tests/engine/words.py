"""A model that judges texts by their words, for tests of operators over sets of texts."""

from __future__ import annotations

import json
from hashlib import blake2b

import numpy as np

from quackllm.engine.providers.base import Request
from quackllm.engine.providers.text_batches import text_of
from quackllm.udfs.base import Choice, Embedding
from quackllm.udfs.vectors import packed

DIMENSIONS = 16


def by_first_word(request: Request) -> str:
    """Embed a text near all that begin with the same word; call those the same, and so name them.

    A text is classified as its first word, if that is a label.
    """
    if isinstance(request.answer, Embedding):
        return packed(direction(text_of(request.fields)))
    fields = json.loads(request.fields)
    if isinstance(request.answer, Choice):
        if request.answer.labels == ("true", "false"):
            same = fields["a"].split()[:1] == fields["b"].split()[:1]
            return "true" if same else "false"
        word = next(iter(fields.values())).split()[0]
        return word if word in request.answer.labels else request.answer.labels[0]
    return str(json.loads(request.fields)["texts"]).split("'")[1].split()[0]


def direction(text: str) -> np.ndarray:
    """Return a vector (16,) of length 1: that of the first word, and a little of the whole."""
    vector = _drawn(text.split()[0] if text.strip() else "") + 0.1 * _drawn(text)
    return vector / np.linalg.norm(vector)


def _drawn(text: str) -> np.ndarray:
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    vector = np.random.Generator(np.random.PCG64(seed)).standard_normal(DIMENSIONS, np.float32)
    return vector / np.linalg.norm(vector)
