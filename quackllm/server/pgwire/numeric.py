"""PostgreSQL's binary numeric: digits of base 10,000 between sign, weight and scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_DIGITS = 4
"""Decimal digits in one of base 10,000."""
Digits = npt.NDArray[np.int64]
_POWERS = np.array([1000, 100, 10, 1], np.int64)


def numeric_binary(texts: pa.Array) -> pa.Array:
    """Encode decimal texts such as '-12.340', NULLs kept. Exponents are not read."""
    count = len(texts)
    if count == 0:
        return pa.array([], pa.binary())
    filled = texts.fill_null("0")
    negative = pc.starts_with(filled, "-").to_numpy(zero_copy_only=False)
    parts = pc.split_pattern(pc.utf8_ltrim(filled, "-"), ".", max_splits=1)
    whole = pc.list_element(parts, 0)
    places = pc.list_value_length(parts).to_numpy(zero_copy_only=False)
    if (places == 2).any():
        padded = pc.binary_join_element_wise(filled, pa.scalar(""), pa.scalar("."))
        fraction = pc.list_element(pc.split_pattern(padded, ".", max_splits=2), 1)
    else:
        fraction = pa.array([""] * count, pa.string())
    scale = pc.utf8_length(fraction).to_numpy(zero_copy_only=False).astype(np.int64)
    left = _up(int(pc.max(pc.utf8_length(whole)).as_py()))
    right = _up(int(scale.max()))
    digits = pc.binary_join_element_wise(
        pc.utf8_lpad(whole, left, "0"), pc.utf8_rpad(fraction, right, "0"), ""
    )
    groups = _groups(digits, count, left + right)
    return _assembled(groups, left // _DIGITS, negative, scale, texts)


def _up(width: int) -> int:
    return -(-width // _DIGITS) * _DIGITS


def _groups(
    digits: pa.Array, count: int, width: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the digits of base 10,000, one row per value, all of the same number."""
    characters = np.frombuffer(digits.buffers()[2], np.uint8, count * width)
    numbers = characters.reshape(count, width // _DIGITS, _DIGITS).astype(np.int64) - ord("0")
    groups: Digits = numbers @ _POWERS
    return groups


def _assembled(
    groups: Digits,
    left: int,
    negative: npt.NDArray[np.bool_],
    scale: npt.NDArray[np.int64],
    texts: pa.Array,
) -> pa.Array:
    """Put the parts together; left: groups before the decimal point.

    Groups of zeros at both ends are left out, as PostgreSQL does.
    """
    count, width = groups.shape
    used = groups != 0
    any_used = used.any(axis=1)
    first = np.where(any_used, used.argmax(axis=1), 0)
    end = np.where(any_used, width - used[:, ::-1].argmax(axis=1), 0)
    place = np.arange(width)
    keep = (place >= first[:, None]) & (place < end[:, None])
    sizes = (end - first) * 2
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    data = groups.astype(">i2")[keep]
    body = pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(starts), pa.py_buffer(np.ascontiguousarray(data))]
    )
    weight = np.where(any_used, left - 1 - first, 0)
    sign = np.where(negative & any_used, 0x4000, 0)
    heads = np.stack([sizes // 2, weight, sign, scale], axis=1).astype(">i2")
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(8)
    head = pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(heads))]
    )
    whole = pc.binary_join_element_wise(head, body, pa.scalar(b"", pa.binary()))
    if not texts.null_count:
        return whole
    return pc.if_else(texts.is_valid(), whole, pa.scalar(None, pa.binary()))
