"""Embeddings for the engine's own use: the vectors of texts, as LLM_EMBED gives them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quackllm.engine.run import Run
from quackllm.udfs.base import Call, Embedding
from quackllm.udfs.vectors import unpacked

EMBED = "llm_embed"

ESCAPE = re.compile(r"\\(?:u(?P<digits>[0-9a-f]{4})|.)")
"""A character that JSON escapes."""


@dataclass(frozen=True)
class Embedded:
    """The vectors of n texts.

    vectors: (n, dimensions), zeros in the row of a text that has none.
    failed: (n,), whether the call failed, or a budget left it out: it is in llm_errors().
    null: (n,), whether there is no text.
    """

    vectors: NDArray[np.float32]
    failed: NDArray[np.bool_]
    null: NDArray[np.bool_]

    @property
    def there(self) -> NDArray[np.bool_]:
        """Whether a text has a vector, (n,)."""
        return ~(self.failed | self.null)


def as_json(texts: Sequence[str | None]) -> pa.Array:
    """Write texts as values of a call: JSON as DuckDB's to_json writes it, 'null' for None."""
    written = (json.dumps(text, ensure_ascii=False) for text in texts)
    return pa.array([ESCAPE.sub(_in_capitals, text) for text in written], pa.string())


def _in_capitals(escape: re.Match[str]) -> str:
    """Write the number of a control character as DuckDB does; leave other escapes."""
    digits = escape["digits"]
    return f"\\u{digits.upper()}" if digits else escape[0]


def embed(run: Run, texts: pa.Array, *, model: str | None = None, field: str = "text") -> Embedded:
    """Embed texts in one round of calls, equal ones once, as LLM_EMBED does.

    texts: (n,), JSON as `as_json` and DuckDB's to_json write it.
    model: as in LLM_EMBED(..., model := ...). field: the name that the argument of such a
        call would have; two calls that differ in it are one question and two stages.

    Raises what `Run.answer` does.
    """
    call = _call(run, model, field)
    size = _size(call)
    null = np.asarray(pc.equal(texts, "null").to_numpy(zero_copy_only=False), bool)
    answers = run.answer(call, [texts], len(texts))
    there = np.asarray(answers.is_valid().to_numpy(zero_copy_only=False), bool)
    vectors = np.zeros((len(texts), size), np.float32)
    for row in np.flatnonzero(there):
        vectors[row] = unpacked(answers[int(row)].as_py())
    return Embedded(vectors, ~there & ~null, null)


def dimensions(run: Run, model: str | None = None) -> int:
    """Return how many numbers the embeddings of a model have, which opens its provider."""
    return _size(_call(run, model, "text"))


def _call(run: Run, model: str | None, field: str) -> Call:
    return run.bound(EMBED, {}, {} if model is None else {"model": model}, (field,))


def _size(call: Call) -> int:
    form = call.declaration.answer
    assert isinstance(form, Embedding) and form.dimensions is not None
    return form.dimensions
