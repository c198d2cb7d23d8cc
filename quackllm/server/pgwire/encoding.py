"""Columns of Arrow as PostgreSQL's text or binary values, a batch at a time.

Nothing here runs once per row: values are made by Arrow's and NumPy's kernels, or have
been by DuckDB (see `types`), and `binary_join_element_wise` writes the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quackllm.server.pgwire.numeric import numeric_binary
from quackllm.server.pgwire.types import Column, Form, WireType

TEXT, BINARY = 0, 1
ARROW = 2
"""Not PostgreSQL's: the column as it is, for clients that take Arrow."""

DATA_ROW, COPY_DATA = b"D", b"d"

_EPOCH_DAYS = 10_957
"""Days from 1970 to 2000, where PostgreSQL's calendar begins."""
_EPOCH_MICROSECONDS = _EPOCH_DAYS * 86_400_000_000
_NULL_LENGTH = b"\xff\xff\xff\xff"
_LARGEST_JOIN = 2**30
"""Bytes joined at once; Arrow's offsets have 31 bits."""

Bytes = npt.NDArray[np.uint8]


def encode_values(column: pa.Array, kind: WireType, form: int) -> pa.Array:
    """Return the values of a column as a binary array of the same length, NULLs kept."""
    if form == TEXT:
        return _text(column, kind)
    return _BINARY[kind.form](column, kind)


def encode_rows(
    batch: pa.RecordBatch,
    columns: Sequence[Column],
    formats: Sequence[int],
    message: bytes = DATA_ROW,
) -> list[bytes]:
    """Write rows one after the other.

    message: the type of the message that each is: DATA_ROW, or COPY_DATA for the tuples of
        COPY's binary format, which are laid out the same.
    """
    if batch.num_rows == 0:
        return []
    values = [
        encode_values(batch.column(i), column.type, form)
        for i, (column, form) in enumerate(zip(columns, formats, strict=True))
    ]
    lengths = [_lengths(value) for value in values]
    sizes = np.full(batch.num_rows, 4 * len(columns) + 2, np.int64)
    for length in lengths:
        sizes += np.maximum(length, 0)
    total = int(sizes.sum())
    if total > _LARGEST_JOIN and batch.num_rows > 1:
        half = batch.num_rows // 2
        return [
            *encode_rows(batch.slice(0, half), columns, formats, message),
            *encode_rows(batch.slice(half), columns, formats, message),
        ]
    parts: list[pa.Array] = [_heads(sizes, len(columns), message)]
    for value, length in zip(values, lengths, strict=True):
        parts.append(_fixed(_big_endian(length, ">i4")))
        parts.append(value.fill_null(b"") if value.null_count else value)
    joined = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
    return [_bytes_of(joined)]


def join_lines(values: Sequence[pa.Array], separator: bytes) -> bytes:
    """Write text columns as lines, the fields with a separator between them.

    Each line is a CopyData message, as PostgreSQL sends them: drivers take it for a row.
    """
    line = pc.binary_join_element_wise(*values, pa.scalar(separator, pa.binary()))
    nothing, newline = pa.scalar(b"", pa.binary()), pa.scalar(b"\n", pa.binary())
    heads = np.empty((len(line), 5), np.uint8)
    heads[:, 0] = ord(COPY_DATA)
    heads[:, 1:] = _big_endian(_lengths(line) + 5, ">i4")  # the length itself, and the newline
    return _bytes_of(pc.binary_join_element_wise(_fixed(heads), line, newline, nothing))


def _bytes_of(joined: pa.Array) -> bytes:
    if len(joined) == 0:
        return b""
    offsets = np.frombuffer(joined.buffers()[1], np.int32)[joined.offset :]
    data: bytes = joined.buffers()[2][int(offsets[0]) : int(offsets[len(joined)])].to_pybytes()
    return data


def _heads(sizes: npt.NDArray[np.int64], columns: int, message: bytes) -> pa.Array:
    """Return what stands before the values of each row."""
    heads = np.empty((len(sizes), 7), np.uint8)
    heads[:, 0] = ord(message)
    heads[:, 1:5] = _big_endian(sizes + 4, ">i4")
    heads[:, 5:] = np.frombuffer(columns.to_bytes(2, "big"), np.uint8)
    return _fixed(heads)


def _lengths(values: pa.Array) -> npt.NDArray[np.int64]:
    """Return the length of each value, -1 for NULL."""
    offsets = np.frombuffer(values.buffers()[1], np.int32)
    lengths = np.diff(offsets[values.offset : values.offset + len(values) + 1]).astype(np.int64)
    if values.null_count:
        lengths[_is_null(values)] = -1
    return lengths


def _is_null(values: pa.Array) -> npt.NDArray[np.bool_]:
    nulls: npt.NDArray[np.bool_] = values.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _big_endian(values: npt.NDArray[np.generic], code: str) -> Bytes:
    """Return numbers as rows of bytes."""
    rows = np.ascontiguousarray(values.astype(code)).view(np.uint8)
    fields = values.shape[1] if values.ndim > 1 else 1
    return rows.reshape(len(values), np.dtype(code).itemsize * fields)


def _fixed(rows: Bytes, nulls: pa.Array | None = None) -> pa.Array:
    """Return rows of bytes as a binary array; NULL where the other array is."""
    count, width = rows.shape
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    data = np.ascontiguousarray(rows)
    array = pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    if nulls is None or not nulls.null_count:
        return array
    return pc.if_else(nulls.is_valid(), array, pa.scalar(None, pa.binary()))


# Text


def _text(column: pa.Array, kind: WireType) -> pa.Array:
    if pa.types.is_boolean(column.type):
        column = pc.if_else(column, "t", "f")
    elif pa.types.is_floating(column.type):
        column = _float_text(column)
    return _binary_array(column.cast(pa.string()))


def _float_text(column: pa.Array) -> pa.Array:
    text = column.cast(pa.string())
    if pc.all(pc.is_finite(column)).as_py() is not False:
        return text
    text = pc.replace_substring(text, "inf", "Infinity")
    return pc.if_else(pc.is_nan(column), "NaN", text)


def _binary_array(column: pa.Array) -> pa.Array:
    """Look at text as bytes; a length of zero has offsets too."""
    if len(column) == 0:
        return pa.array([], pa.binary())
    return column.cast(pa.binary())


# Binary


def _number(code: str) -> Callable[[pa.Array, WireType], pa.Array]:
    def encode(column: pa.Array, kind: WireType) -> pa.Array:
        filled = column.fill_null(0) if column.null_count else column
        return _fixed(_big_endian(filled.to_numpy(zero_copy_only=False), code), column)

    return encode


def _bool(column: pa.Array, kind: WireType) -> pa.Array:
    filled = column.fill_null(False).to_numpy(zero_copy_only=False)
    return _fixed(filled.astype(np.uint8).reshape(-1, 1), column)


def _date(column: pa.Array, kind: WireType) -> pa.Array:
    days = column.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    low, high = -(2**31), 2**31 - 1
    shifted = np.where(
        days == high, high, np.where(days == -high, low, days - _EPOCH_DAYS)
    )  # infinities
    return _fixed(_big_endian(shifted, ">i4"), column)


def _timestamp(column: pa.Array, kind: WireType) -> pa.Array:
    micros = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    low, high = -(2**63), 2**63 - 1
    with np.errstate(over="ignore"):
        shifted = np.where(
            micros == high, high, np.where(micros == -high, low, micros - _EPOCH_MICROSECONDS)
        )  # infinities
    return _fixed(_big_endian(shifted, ">i8"), column)


def _time(column: pa.Array, kind: WireType) -> pa.Array:
    return _number(">i8")(column.cast(pa.int64()), kind)


def _time_and_zone(column: pa.Array, kind: WireType) -> pa.Array:
    """Take lists of two numbers: microseconds, seconds west."""
    valid = column.drop_null()
    pairs = valid.flatten().to_numpy(zero_copy_only=False).reshape(len(valid), 2)
    rows = np.zeros((len(column), 12), np.uint8)
    places = np.flatnonzero(~_is_null(column))
    rows[places, :8] = _big_endian(pairs[:, 0], ">i8")
    rows[places, 8:] = _big_endian(pairs[:, 1], ">i4")
    return _fixed(rows, column)


def _interval(column: pa.Array, kind: WireType) -> pa.Array:
    layout = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
    buffer = column.buffers()[1]
    parts = np.frombuffer(buffer, layout)[column.offset : column.offset + len(column)]
    rows = np.concatenate(
        [
            _big_endian(parts["nanoseconds"] // 1000, ">i8"),
            _big_endian(parts["days"], ">i4"),
            _big_endian(parts["months"], ">i4"),
        ],
        axis=1,
    )
    return _fixed(rows, column)


def _bytes(column: pa.Array, kind: WireType) -> pa.Array:
    if pa.types.is_boolean(column.type):
        return _text(column, kind)
    return _binary_array(column if pa.types.is_binary(column.type) else column.cast(pa.string()))


def _bits(column: pa.Array, kind: WireType) -> pa.Array:
    """Take texts of 0 and 1. Bit strings are rare and short: one by one."""
    return pa.array(
        [None if v is None else _bit_string(v) for v in column.to_pylist()], pa.binary()
    )


def _bit_string(text: str) -> bytes:
    size = (len(text) + 7) // 8
    padded = text.ljust(size * 8, "0")
    return len(text).to_bytes(4, "big") + int(padded or "0", 2).to_bytes(size, "big")


def _array(column: pa.Array, kind: WireType) -> pa.Array:
    """Elements are encoded as one column; an array is a head and a slice of their bytes."""
    assert kind.element is not None
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    filled = column.fill_null([]) if column.null_count else column
    elements = encode_values(filled.flatten(), kind.element, BINARY)
    lengths = _lengths(elements)
    data = pc.binary_join_element_wise(
        _fixed(_big_endian(lengths, ">i4")), elements.fill_null(b""), pa.scalar(b"", pa.binary())
    )
    counts = pc.list_value_length(filled).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(counts)])
    starts = np.concatenate([[0], np.cumsum(np.maximum(lengths, 0) + 4)]).astype(np.int32)
    body = pa.Array.from_buffers(
        pa.binary(), len(column), [None, pa.py_buffer(starts[ends]), pa.py_buffer(_bytes_of(data))]
    )
    missing = np.concatenate([[0], np.cumsum(lengths < 0)])
    has_null = (missing[ends[1:]] - missing[ends[:-1]] > 0).astype(np.int64)
    heads = _array_heads(counts, has_null, kind.element.oid)
    whole = pc.binary_join_element_wise(heads, body, pa.scalar(b"", pa.binary()))
    if not column.null_count:
        return whole
    return pc.if_else(column.is_valid(), whole, pa.scalar(None, pa.binary()))


def _array_heads(
    counts: npt.NDArray[np.int64], has_null: npt.NDArray[np.int64], oid: int
) -> pa.Array:
    """Dimensions, NULLs or none, type of elements; for one dimension its size and lower bound."""
    fields = np.stack(
        [np.ones_like(counts), has_null, np.full_like(counts, oid), counts, np.ones_like(counts)],
        axis=1,
    )
    full = _fixed(_big_endian(fields.astype(">i4"), ">i4"))
    empty = pa.scalar(b"\0" * 8 + oid.to_bytes(4, "big"), pa.binary())
    return pc.if_else(pa.array(counts > 0), full, empty)


def _numeric(column: pa.Array, kind: WireType) -> pa.Array:
    return numeric_binary(column.cast(pa.string()))


_BINARY: Mapping[Form, Callable[[pa.Array, WireType], pa.Array]] = {
    Form.BOOL: _bool,
    Form.INT2: _number(">i2"),
    Form.INT4: _number(">i4"),
    Form.INT8: _number(">i8"),
    Form.FLOAT4: _number(">f4"),
    Form.FLOAT8: _number(">f8"),
    Form.NUMERIC: _numeric,
    Form.TEXT: _bytes,
    Form.BYTEA: _bytes,
    Form.DATE: _date,
    Form.TIME: _time,
    Form.TIMETZ: _time_and_zone,
    Form.TIMESTAMP: _timestamp,
    Form.INTERVAL: _interval,
    Form.UUID: _bytes,
    Form.BIT: _bits,
    Form.ARRAY: _array,
}
