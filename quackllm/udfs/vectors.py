"""Vectors between a model and DuckDB: one text per vector on the way, numbers at its end.

The canonical text of a vector is the base64 of its 32-bit floats, little-endian, which is
also how the OpenAI embeddings API sends them: a third longer than the numbers themselves
and a fifth of what they take in decimal digits.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from quackllm.errors import InvalidAnswer
from quackllm.udfs.types import JsonSchema, SqlType, reject

NUMBER = np.dtype("<f4")


def packed(vector: ArrayLike) -> str:
    """Return the canonical text of a vector (n,)."""
    numbers = np.ascontiguousarray(vector, NUMBER)
    return binascii.b2a_base64(numbers.tobytes(), newline=False).decode()


def unpacked(text: str) -> NDArray[np.float32]:
    """Return the vector (n,) of a text. Raises `InvalidAnswer` for what is none."""
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
        return np.frombuffer(content, NUMBER)
    except (binascii.Error, ValueError):
        raise InvalidAnswer("the embedding is not the base64 of 32-bit floats") from None


def read_vector(text: str, dimensions: int | None) -> str:
    """Check the text of a vector and return it.

    Raises `InvalidAnswer` when there are not `dimensions` numbers, or one is no number.
    """
    vector = unpacked(text)
    if dimensions is not None and len(vector) != dimensions:
        raise InvalidAnswer(f"the embedding has {len(vector)} dimensions, not {dimensions}")
    if not np.isfinite(vector).all():
        raise InvalidAnswer("the embedding holds a number that is not finite")
    return text


def as_lists(texts: Sequence[str | None], dimensions: int) -> pa.ListArray:
    """Return texts of vectors as an Arrow array (n,) of lists of 32-bit numbers."""
    there = np.array([text is not None for text in texts], bool)
    content = b"".join(binascii.a2b_base64(text) for text in texts if text is not None)
    offsets = np.concatenate([[0], np.cumsum(there) * dimensions]).astype(np.int32)
    numbers = pa.array(np.frombuffer(content, NUMBER))
    return pa.ListArray.from_arrays(pa.array(offsets), numbers, mask=pa.array(~there))


def as_digits(texts: Sequence[str | None]) -> pa.Array:
    """Return texts of vectors as texts that DuckDB casts to FLOAT[n], such as '[0.5, 1]'."""
    lists = [None if text is None else str(unpacked(text).tolist()) for text in texts]
    return pa.array(lists, pa.string())


@dataclass(frozen=True)
class Vector(SqlType):
    """FLOAT[n], the type of an embedding. No text of a model is read as one."""

    dimensions: int

    def to_duckdb(self) -> str:
        return f"FLOAT[{self.dimensions}]"

    def describe(self) -> str:
        return f"list of {self.dimensions} numbers"

    def json_schema(self) -> JsonSchema:
        n = self.dimensions
        return {"type": "array", "items": {"type": "number"}, "minItems": n, "maxItems": n}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept a list of so many numbers."""
        try:
            vector = np.asarray(value, NUMBER)
        except (TypeError, ValueError):
            return reject(path, value, f"a {self.to_duckdb()}")
        if vector.shape != (self.dimensions,) or not np.isfinite(vector).all():
            reject(path, value, f"a {self.to_duckdb()}")
        return packed(vector)
