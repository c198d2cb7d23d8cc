"""DuckDB's types and vectors as bytes of a frame, and as Arrow arrays.

The form of the bytes is told in duckdb_extension/src/vectors.h. Nothing here loops over rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quackllm.optimizer.sql import literal, quote
from quackllm.server.duckdb_shell.frames import Reader, text, u32

Bytes = npt.NDArray[np.uint8]


class Type(Protocol):
    """A type of a column."""

    @property
    def sql(self) -> str:
        """The type as DuckDB writes it."""

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the arrays that `read` returns."""

    def header(self) -> bytes:
        """Write the type itself."""

    def write(self, array: pa.Array) -> bytes:
        """Write a vector of the array's values, which are as DuckDB exports this type."""

    def read(self, reader: Reader, rows: int) -> pa.Array:
        """Read a vector."""


def write_validity(array: pa.Array) -> bytes:
    """Write which rows have a value."""
    if array.null_count == 0:
        return b"\0"
    valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.uint8)
    return b"\1" + valid.tobytes()


def read_validity(reader: Reader, rows: int) -> pa.Buffer | None:
    """Read which rows have a value, as Arrow's bitmap; None when all have."""
    if not reader.u8():
        return None
    valid = np.frombuffer(reader.take(rows), np.uint8)
    return pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())


def _values(array: pa.Array, width: int) -> Bytes:
    """Return the values of a fixed-width array as bytes, (rows, width)."""
    data = array.buffers()[1]
    if data is None:  # an array of NULLs alone may have none
        return np.zeros((len(array), width), np.uint8)
    all_bytes = np.frombuffer(data, np.uint8)
    start = array.offset * width
    return all_bytes[start : start + len(array) * width].reshape(-1, width)


def _counted(offsets: npt.NDArray[np.int32]) -> bytes:
    """Write offsets, counted from the first."""
    return np.asarray(offsets - offsets[0], np.uint32).tobytes()


def _offsets(array: pa.Array) -> npt.NDArray[np.int32]:
    """Return the offsets of a list or text array, one more than rows."""
    if not len(array):
        return np.zeros(1, np.int32)
    found = np.frombuffer(array.buffers()[1], np.int32)
    return found[array.offset : array.offset + len(array) + 1]


def read_offsets(reader: Reader, rows: int) -> tuple[memoryview, int]:
    """Read the offsets of texts or lists, one more than rows; return them and the last one.

    Raises `ValueError` when they do not begin at 0, or go down.
    """
    taken = reader.take(4 * (rows + 1))
    offsets = np.frombuffer(taken, np.int32)
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
        raise ValueError("offsets have to begin at 0 and not to go down")
    return taken, int(offsets[-1])


@dataclass(frozen=True)
class Fixed:
    """Values of the same form in DuckDB and in Arrow, `width` bytes each."""

    code: int
    sql: str
    arrow: pa.DataType
    width: int

    def header(self) -> bytes:
        return bytes([self.code])

    def write(self, array: pa.Array) -> bytes:
        return write_validity(array) + self._to_bytes(array).tobytes()

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        data = np.frombuffer(reader.take(rows * self.width), np.uint8)
        return self._to_arrow(data.reshape(rows, self.width), rows, valid)

    def _to_bytes(self, array: pa.Array) -> npt.NDArray[Any]:
        return _values(array, self.width)

    def _to_arrow(self, data: Bytes, rows: int, valid: pa.Buffer | None) -> pa.Array:
        return pa.Array.from_buffers(self.arrow, rows, [valid, pa.py_buffer(data)])


@dataclass(frozen=True)
class Boolean(Fixed):
    """BOOLEAN: a byte in DuckDB, a bit in Arrow."""

    def _to_bytes(self, array: pa.Array) -> npt.NDArray[Any]:
        return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False), np.uint8)

    def _to_arrow(self, data: Bytes, rows: int, valid: pa.Buffer | None) -> pa.Array:
        bits = np.packbits(data.reshape(-1) != 0, bitorder="little")
        return pa.Array.from_buffers(self.arrow, rows, [valid, pa.py_buffer(bits)])


_INTERVAL = np.dtype([("months", "i4"), ("days", "i4"), ("time", "i8")])


@dataclass(frozen=True)
class Interval(Fixed):
    """INTERVAL: microseconds in DuckDB, nanoseconds in Arrow."""

    def _to_bytes(self, array: pa.Array) -> npt.NDArray[Any]:
        values = np.ascontiguousarray(_values(array, self.width)).view(_INTERVAL).copy()
        values["time"] //= 1000
        return values

    def _to_arrow(self, data: Bytes, rows: int, valid: pa.Buffer | None) -> pa.Array:
        values = data.copy().view(_INTERVAL)
        values["time"] *= 1000
        return pa.Array.from_buffers(self.arrow, rows, [valid, pa.py_buffer(values.tobytes())])


_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_VALUES = np.zeros(256, np.uint8)
_VALUES[_DIGITS] = np.arange(16)
_VALUES[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)
_UUID_LENGTH = 36
_DASHES = (8, 13, 18, 23)
_LETTERS = np.setdiff1d(np.arange(_UUID_LENGTH), _DASHES)
_NO_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Uuid(Fixed):
    """UUID: a number with its highest bit turned in DuckDB, a text in Arrow."""

    def _to_bytes(self, array: pa.Array) -> npt.NDArray[Any]:
        filled = pa.concat_arrays([array.cast(pa.string()).fill_null(_NO_UUID)])
        start = filled.offset * _UUID_LENGTH
        letters = np.frombuffer(filled.buffers()[2] or b"", np.uint8)
        letters = letters[start : start + len(filled) * _UUID_LENGTH].reshape(-1, _UUID_LENGTH)
        digits = _VALUES[letters[:, _LETTERS]]
        values = (digits[:, 0::2] << 4) | digits[:, 1::2]
        values[:, 0] ^= 0x80
        return np.ascontiguousarray(values[:, ::-1])

    def _to_arrow(self, data: Bytes, rows: int, valid: pa.Buffer | None) -> pa.Array:
        values = data[:, ::-1].copy()
        values[:, 0] ^= 0x80
        digits = np.empty((rows, 32), np.uint8)
        digits[:, 0::2], digits[:, 1::2] = _DIGITS[values >> 4], _DIGITS[values & 15]
        letters = np.full((rows, _UUID_LENGTH), ord("-"), np.uint8)
        letters[:, _LETTERS] = digits
        ends = np.arange(rows + 1, dtype=np.int32) * _UUID_LENGTH
        buffers = [valid, pa.py_buffer(ends), pa.py_buffer(letters.tobytes())]
        return pa.Array.from_buffers(self.arrow, rows, buffers)


@dataclass(frozen=True)
class Decimal:
    """DECIMAL: 16 bytes a value on the way."""

    width: int
    scale: int

    @property
    def sql(self) -> str:
        return f"DECIMAL({self.width}, {self.scale})"

    @property
    def arrow(self) -> pa.DataType:
        return pa.decimal128(self.width, self.scale)

    def header(self) -> bytes:
        return bytes([19, self.width, self.scale])

    def write(self, array: pa.Array) -> bytes:
        wide = array.cast(self.arrow)
        return write_validity(wide) + _values(wide, 16).tobytes()

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        return pa.Array.from_buffers(
            self.arrow, rows, [valid, pa.py_buffer(reader.take(rows * 16))]
        )


@dataclass(frozen=True)
class Text:
    """VARCHAR, JSON and BLOB."""

    code: int
    sql: str
    arrow: pa.DataType

    def header(self) -> bytes:
        return bytes([self.code])

    def write(self, array: pa.Array) -> bytes:
        array = array.cast(self.arrow)
        offsets = _offsets(array)
        data = array.buffers()[2] if len(array) else None
        held = b"" if data is None else memoryview(data)[offsets[0] : offsets[-1]]
        return write_validity(array) + _counted(offsets) + bytes(held)

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        offsets, size = read_offsets(reader, rows)
        buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(reader.take(size))]
        texts = pa.Array.from_buffers(self.arrow, rows, buffers)
        texts.validate(full=True)  # UTF-8, which who sends it has to keep
        return texts


@dataclass(frozen=True)
class Enum:
    """ENUM: numbers on the way, texts in Arrow once read."""

    values: tuple[str, ...]

    arrow = pa.string()

    @property
    def sql(self) -> str:
        return f"ENUM({', '.join(map(literal, self.values))})"

    def header(self) -> bytes:
        return bytes([23]) + u32(len(self.values)) + b"".join(map(text, self.values))

    def write(self, array: pa.Array) -> bytes:
        numbers = array.indices.cast(pa.uint32()).fill_null(0)
        return write_validity(array) + _values(numbers, 4).tobytes()

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        buffers = [valid, pa.py_buffer(reader.take(4 * rows))]
        numbers = pa.Array.from_buffers(pa.uint32(), rows, buffers)
        return pa.array(self.values, pa.string()).take(numbers)


@dataclass(frozen=True)
class List:
    """LIST."""

    inner: Type

    @property
    def sql(self) -> str:
        return f"{self.inner.sql}[]"

    @cached_property
    def arrow(self) -> pa.DataType:
        return pa.list_(self.inner.arrow)

    def header(self) -> bytes:
        return bytes([24]) + self.inner.header()

    def write(self, array: pa.Array) -> bytes:
        offsets = _offsets(array)
        entries = array.values[offsets[0] : offsets[-1]]
        return write_validity(array) + _counted(offsets) + self.inner.write(entries)

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        offsets, count = read_offsets(reader, rows)
        entries = self.inner.read(reader, count)
        buffers = [valid, pa.py_buffer(offsets)]
        return pa.Array.from_buffers(self.arrow, rows, buffers, children=[entries])


@dataclass(frozen=True)
class Map:
    """MAP: a list of entries, each a key and a value."""

    key: Type
    value: Type

    @property
    def sql(self) -> str:
        return f"MAP({self.key.sql}, {self.value.sql})"

    @cached_property
    def arrow(self) -> pa.DataType:
        return pa.map_(self.key.arrow, self.value.arrow)

    def header(self) -> bytes:
        return bytes([26]) + self.key.header() + self.value.header()

    def write(self, array: pa.Array) -> bytes:
        offsets = _offsets(array)
        keys = array.keys[offsets[0] : offsets[-1]]
        values = array.items[offsets[0] : offsets[-1]]
        entries = b"\0" + self.key.write(keys) + self.value.write(values)
        return write_validity(array) + _counted(offsets) + entries

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        offsets, count = read_offsets(reader, rows)
        read_validity(reader, count)
        pairs = [self.key.read(reader, count), self.value.read(reader, count)]
        entry = pa.struct([self.arrow.key_field, self.arrow.item_field])
        entries = pa.Array.from_buffers(entry, count, [None], children=pairs)
        buffers = [valid, pa.py_buffer(offsets)]
        return pa.Array.from_buffers(self.arrow, rows, buffers, children=[entries])


@dataclass(frozen=True)
class Array:
    """ARRAY: lists of one length."""

    inner: Type
    size: int

    @property
    def sql(self) -> str:
        return f"{self.inner.sql}[{self.size}]"

    @cached_property
    def arrow(self) -> pa.DataType:
        return pa.list_(self.inner.arrow, self.size)

    def header(self) -> bytes:
        return bytes([33]) + u32(self.size) + self.inner.header()

    def write(self, array: pa.Array) -> bytes:
        start = array.offset * self.size
        entries = array.values[start : start + len(array) * self.size]
        return write_validity(array) + self.inner.write(entries)

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        entries = self.inner.read(reader, rows * self.size)
        return pa.Array.from_buffers(self.arrow, rows, [valid], children=[entries])


@dataclass(frozen=True)
class Struct:
    """STRUCT."""

    fields: tuple[tuple[str, Type], ...]

    @property
    def sql(self) -> str:
        return f"STRUCT({', '.join(f'{quote(name)} {type_.sql}' for name, type_ in self.fields)})"

    @cached_property
    def arrow(self) -> pa.DataType:
        return pa.struct([pa.field(name, type_.arrow) for name, type_ in self.fields])

    def header(self) -> bytes:
        fields = [text(name) + type_.header() for name, type_ in self.fields]
        return bytes([25]) + u32(len(fields)) + b"".join(fields)

    def write(self, array: pa.Array) -> bytes:
        parts = zip(self.fields, array.flatten(), strict=True)
        return write_validity(array) + b"".join(type_.write(part) for (_, type_), part in parts)

    def read(self, reader: Reader, rows: int) -> pa.Array:
        valid = read_validity(reader, rows)
        parts = [type_.read(reader, rows) for _, type_ in self.fields]
        return pa.Array.from_buffers(self.arrow, rows, [valid], children=parts)


@dataclass(frozen=True)
class Nothing:
    """The type of a bare NULL."""

    sql = '"NULL"'
    arrow = pa.null()

    def header(self) -> bytes:
        return bytes([36])

    def write(self, array: pa.Array) -> bytes:
        return b"\1" + bytes(len(array))

    def read(self, reader: Reader, rows: int) -> pa.Array:
        read_validity(reader, rows)
        return pa.nulls(rows)


VARCHAR = Text(17, "VARCHAR", pa.string())
JSON = Text(100, "JSON", pa.string())

SIMPLE: Mapping[int, Type] = MappingProxyType(
    {
        each.code: each
        for each in (
            Boolean(1, "BOOLEAN", pa.bool_(), 1),
            Fixed(2, "TINYINT", pa.int8(), 1),
            Fixed(3, "SMALLINT", pa.int16(), 2),
            Fixed(4, "INTEGER", pa.int32(), 4),
            Fixed(5, "BIGINT", pa.int64(), 8),
            Fixed(6, "UTINYINT", pa.uint8(), 1),
            Fixed(7, "USMALLINT", pa.uint16(), 2),
            Fixed(8, "UINTEGER", pa.uint32(), 4),
            Fixed(9, "UBIGINT", pa.uint64(), 8),
            Fixed(10, "FLOAT", pa.float32(), 4),
            Fixed(11, "DOUBLE", pa.float64(), 8),
            Fixed(12, "TIMESTAMP", pa.timestamp("us"), 8),
            Fixed(13, "DATE", pa.date32(), 4),
            Fixed(14, "TIME", pa.time64("us"), 8),
            Interval(15, "INTERVAL", pa.month_day_nano_interval(), 16),
            Fixed(16, "HUGEINT", pa.decimal128(38, 0), 16),
            VARCHAR,
            Text(18, "BLOB", pa.binary()),
            Fixed(20, "TIMESTAMP_S", pa.timestamp("s"), 8),
            Fixed(21, "TIMESTAMP_MS", pa.timestamp("ms"), 8),
            Fixed(22, "TIMESTAMP_NS", pa.timestamp("ns"), 8),
            Uuid(27, "UUID", pa.string(), 16),
            Fixed(31, "TIMESTAMP WITH TIME ZONE", pa.timestamp("us", "UTC"), 8),
            JSON,
        )
    }
)
"""Types without parts, by their code."""

_BY_SQL: Mapping[str, Type] = MappingProxyType({each.sql: each for each in SIMPLE.values()})


def read_type(reader: Reader) -> Type:
    """Read a type. Raises `ValueError` for bytes that are none."""
    code = reader.u8()
    if code in SIMPLE:
        return SIMPLE[code]
    if code == 19:
        return Decimal(reader.u8(), reader.u8())
    if code == 23:
        return Enum(tuple(reader.text() for _ in range(reader.u32())))
    if code == 24:
        return List(read_type(reader))
    if code == 25:
        count = reader.u32()
        return Struct(tuple((reader.text(), read_type(reader)) for _ in range(count)))
    if code == 26:
        return Map(read_type(reader), read_type(reader))
    if code == 33:
        size = reader.u32()
        return Array(read_type(reader), size)
    if code == 36:
        return Nothing()
    raise ValueError(f"no type has the code {code}")


def type_of(duckdb_type: Any) -> Type:
    """Return the type in which a column of a DuckDB type is handed over.

    That of the column, but for types that have no form here (UNION, BIT, TIMETZ, UHUGEINT,
    BIGNUM, ...): VARCHAR takes their place, inside of others too, and the column has to be
    cast to `sql`.
    """
    simple = _BY_SQL.get(str(duckdb_type))
    if simple is not None:
        return simple
    id_ = duckdb_type.id
    if id_ not in ("decimal", "enum", "list", "struct", "map", "array"):
        return VARCHAR
    parts = dict(duckdb_type.children)
    if id_ == "decimal":
        return Decimal(parts["precision"], parts["scale"])
    if id_ == "enum":
        return Enum(tuple(parts["values"]))
    if id_ == "list":
        return List(type_of(parts["child"]))
    if id_ == "array":
        return Array(type_of(parts["child"]), parts["size"])
    if id_ == "map":
        return Map(type_of(parts["key"]), type_of(parts["value"]))
    return Struct(tuple((name, type_of(inner)) for name, inner in duckdb_type.children))
