"""Sorted distinct texts as one byte buffer: ranks, lengths and common prefixes.

UTF-8 keeps code-point order, so everything here works on bytes and only the
lengths handed out are counted in characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = 8
_WORDS_AT_ONCE = 64
"""Words compared in step for all pairs; the few pairs left then bisect one by one."""


@dataclass(frozen=True)
class TextPool:
    """Distinct texts in ascending order.

    `data` holds their UTF-8 bytes with at least eight spare bytes at the end;
    text `i` is `data[offsets[i]:offsets[i + 1]]`.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def text(self, index: int) -> str:
        """The text at this rank."""
        low, high = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.data[low:high].tobytes().decode("utf-8", "surrogatepass")

    def characters_and_prefixes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Per text, its characters and those it shares with the text before it.

        Returns two int64 arrays of shape (len(self),); the first text shares 0.
        """
        shared = np.zeros(len(self), np.int64)
        if len(self) > 1:
            shared[1:] = _common_bytes(self.data, self.offsets)
        low, high = self.offsets[:-1], self.offsets[1:]
        used = self.data[: int(self.offsets[-1])]
        if used.size == 0 or int(used.max()) < 0x80:
            return high - low, shared
        starts = np.concatenate([[0], np.cumsum((used & 0xC0) != 0x80)])
        end = low + shared
        # A prefix that stops inside a character does not contain that character.
        split = (end < high) & ((self.data[end] & 0xC0) == 0x80)
        return starts[high] - starts[low], starts[end] - starts[low] - split


def _common_bytes(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Common prefix, in bytes, of each text and its successor, shape (d - 1,)."""
    left, right = offsets[:-2], offsets[1:-1]
    limit = np.minimum(right - left, offsets[2:] - right)
    # Overlapping eight-byte words at every byte, so one gather compares eight bytes.
    words = np.ndarray((len(data) - _WORD + 1,), "<u8", data, strides=(1,))
    common: NDArray[np.int64] = limit.copy()
    open_ = np.flatnonzero(limit > 0)
    done = 0
    while open_.size and done < _WORD * _WORDS_AT_ONCE:
        differ = words[left[open_] + done] ^ words[right[open_] + done]
        # Bits below the lowest set bit; all 64 when the words are equal.
        equal = np.bitwise_count((differ & -differ) - np.uint64(1)).astype(np.int64) // 8
        ends = (equal < _WORD) | (done + _WORD >= limit[open_])
        closed = open_[ends]
        common[closed] = np.minimum(done + equal[ends], limit[closed])
        open_ = open_[~ends]
        done += _WORD
    for pair in open_.tolist():
        common[pair] = _bisect(data, int(left[pair]), int(right[pair]), done, int(limit[pair]))
    return common


def _bisect(data: NDArray[np.uint8], left: int, right: int, low: int, high: int) -> int:
    """Longest common prefix between `low`, known to be common, and `high`, the most."""
    while low < high:
        middle = (low + high + 1) // 2
        same = np.array_equal(data[left + low : left + middle], data[right + low : right + middle])
        low, high = (middle, high) if same else (low, middle - 1)
    return low


def rank_texts(values: Any) -> tuple[NDArray[np.int32], TextPool]:
    """Rank the texts of one column.

    `values` is a pyarrow string array (chunked or not) or a sequence of `str`,
    without nulls, of length n. Returns int32 ranks of shape (n,), equal for equal
    texts and ascending in code-point order, and the pool of distinct texts.
    """
    if hasattr(values, "dictionary_encode"):
        return _rank_arrow(values)
    return _rank_python(values)


def _rank_python(values: Sequence[str]) -> tuple[NDArray[np.int32], TextPool]:
    texts = sorted(set(values))
    rank = dict(zip(texts, range(len(texts)), strict=True))
    codes = np.fromiter(map(rank.__getitem__, values), np.int32, len(values))
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(list(map(len, encoded)), out=offsets[1:])
    data = np.frombuffer(b"".join(encoded) + bytes(_WORD), np.uint8)
    return codes, TextPool(data, offsets)


def _rank_arrow(values: Any) -> tuple[NDArray[np.int32], TextPool]:
    import pyarrow as pa
    import pyarrow.compute as pc

    # 64-bit offsets: a gathered dictionary may pass 2 GiB where its chunks did not.
    values = values.cast(pa.large_string())
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    encoded = values.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    texts = encoded.dictionary.take(order)
    rank = np.empty(len(texts), np.int32)
    rank[order.to_numpy()] = np.arange(len(texts), dtype=np.int32)
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.zeros(1, np.int64)
    if len(texts):
        offsets = np.frombuffer(offset_buffer, np.int64)[
            texts.offset : texts.offset + len(texts) + 1
        ]
    data = np.zeros(int(offsets[-1]) + _WORD, np.uint8)
    if data_buffer is not None:
        data[: int(offsets[-1])] = np.frombuffer(data_buffer, np.uint8)[: int(offsets[-1])]
    return rank[encoded.indices.to_numpy()], TextPool(data, offsets)
