"""Values of parameters, as the client sent them, as DuckDB's SQL literals.

A value stands in the statement as a literal, so that the planner sees prompts and labels
as if they had been typed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import NoReturn

from sqlglot.tokenizer_core import Token, TokenType

from quackllm.optimizer.sql import literal
from quackllm.server.pgwire.errors import SqlState, WireError, nul_in
from quackllm.server.pgwire.types import ARRAY_OIDS

UNKNOWN = 705
ELEMENT_OIDS = {array: element for element, array in ARRAY_OIDS.items()}

_DUCKDB_TYPES = {
    16: "BOOLEAN", 17: "BLOB", 18: "VARCHAR", 19: "VARCHAR", 20: "BIGINT", 21: "SMALLINT",
    23: "INTEGER", 25: "VARCHAR", 26: "UINTEGER", 114: "JSON", 700: "FLOAT", 701: "DOUBLE",
    1042: "VARCHAR", 1043: "VARCHAR", 1082: "DATE", 1083: "TIME", 1114: "TIMESTAMP",
    1184: "TIMESTAMPTZ", 1186: "INTERVAL", 1266: "TIMETZ", 1700: "DECIMAL(38, 10)",
    1562: "BIT", 2950: "UUID", 3802: "JSON",
}  # fmt: skip

_TEXTS = frozenset({18, 19, 25, 1042, 1043, 0, UNKNOWN})
_INTEGERS = {20: "!q", 21: "!h", 23: "!i", 26: "!I"}
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d{1,38}(?:\.\d*)?|\.\d+)")
_YEAR_2000 = datetime(2000, 1, 1)


def duckdb_type(oid: int) -> str:
    """Return DuckDB's name of the type of a parameter; VARCHAR for those it has not."""
    if oid in ELEMENT_OIDS:
        return duckdb_type(ELEMENT_OIDS[oid]) + "[]"
    return _DUCKDB_TYPES.get(oid, "VARCHAR")


def null_of(oid: int) -> str:
    """Write the NULL of a type as DuckDB's SQL."""
    return "NULL" if oid in (0, UNKNOWN) else f"CAST(NULL AS {duckdb_type(oid)})"


@dataclass(frozen=True)
class Place:
    """A parameter in a text: `$number`. Offsets are of the text; `end` is exclusive."""

    start: int
    end: int
    number: int
    bare: bool
    """Behind LIMIT or OFFSET, where a plain number has to stand."""


def places(sql: str, tokens: Sequence[Token]) -> list[Place]:
    """Find the parameters of a statement, in order.

    The tokens are those of `statements.parse`, which has `?` in the place of `$`.
    """
    found = []
    for index, (token, following) in enumerate(pairwise(tokens)):
        is_number = following.text.isdigit() and following.start == token.end + 1
        is_mark = token.token_type in (TokenType.PLACEHOLDER, TokenType.PARAMETER)
        if is_mark and is_number and sql[token.start] == "$":
            before = tokens[index - 1].text.upper() if index else ""
            bare = before in ("LIMIT", "OFFSET")
            found.append(Place(token.start, following.end + 1, int(following.text), bare))
    return found


@dataclass(frozen=True)
class Substituted:
    """A statement with values in the place of its parameters.

    edits: (start in the text sent, length there, length here) of each.
    """

    sql: str
    edits: tuple[tuple[int, int, int], ...]

    def position_sent(self, position: int) -> int:
        """Return where a position (from 1, 0 for none) of this text was in the one sent."""
        if position == 0:
            return 0
        shift = 0
        for start, before, after in self.edits:
            here = start + shift
            if position - 1 < here:
                break
            if position - 1 < here + after:
                return start + 1
            shift += after - before
        return position - shift


def substitute(sql: str, found: Sequence[Place], values: Mapping[int, str]) -> Substituted:
    """Put literals in the place of parameters. Raises `WireError` for one without a value."""
    parts: list[str] = []
    edits = []
    at = 0
    for place in found:
        value = values.get(place.number)
        if value is None:
            raise WireError(
                SqlState.UNKNOWN_PARAMETER,
                f"there is no parameter ${place.number}",
                position=place.start + 1,
            )
        if place.bare and "CAST" in value:
            value = value.removeprefix("CAST(").partition(" AS ")[0]
        parts.extend((sql[at : place.start], value))
        edits.append((place.start, place.end - place.start, len(value)))
        at = place.end
    return Substituted("".join([*parts, sql[at:]]), tuple(edits))


def sql_literal(value: bytes | None, oid: int, form: int, number: int) -> str:
    """Write one value as DuckDB's SQL. Raises `WireError` for bytes that are not of the type."""
    if value is None:
        return null_of(oid)
    try:
        if form == 1:
            return _binary(value, oid)
        return _text(value.decode(), oid)
    except _NulCharacter:
        raise nul_in(f"parameter ${number}") from None
    except (ValueError, struct.error, OverflowError, IndexError):
        state = SqlState.INVALID_BINARY if form == 1 else SqlState.INVALID_TEXT
        kind = duckdb_type(oid)
        what = "binary data" if form == 1 else f"{value[:40].decode(errors='replace')!r}"
        raise WireError(state, f"{what} for parameter ${number} is no {kind}") from None


# Text


class _NulCharacter(Exception):
    """A text holds one."""


def _text(text: str, oid: int) -> str:
    if "\0" in text:
        raise _NulCharacter
    if oid in _TEXTS:
        return literal(text)
    if oid in _INTEGERS:
        int(text)
        return _typed_integer(int(text), oid)
    if oid == 16:
        return _boolean(text)
    if oid == 1700:
        return _decimal(text)
    if oid == 17:
        return _blob(_bytea(text))
    if oid in ELEMENT_OIDS:
        return _array(_array_elements(text), ELEMENT_OIDS[oid])
    if oid in (700, 701):
        float(text)
    return f"CAST({literal(text)} AS {duckdb_type(oid)})"


def _typed_integer(value: int, oid: int) -> str:
    return f"CAST({value} AS {duckdb_type(oid)})"


def _boolean(text: str) -> str:
    word = text.strip().lower()
    if word in ("t", "true", "y", "yes", "on", "1"):
        return "TRUE"
    if word in ("f", "false", "n", "no", "off", "0"):
        return "FALSE"
    raise ValueError(text)


def _decimal(text: str) -> str:
    """A decimal number has the precision it is written with, as a literal of SQL has."""
    digits = sum(character.isdigit() for character in text)
    if _PLAIN_NUMBER.fullmatch(text) and digits <= 38:
        return f"({text})" if text.startswith(("-", "+")) else text
    float(text)
    return f"CAST({literal(text)} AS DOUBLE)"


def _bytea(text: str) -> bytes:
    if text.startswith("\\x"):
        return bytes.fromhex(text[2:])
    return re.sub(
        rb"\\(\\|[0-3][0-7]{2})",
        lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1], 8)]),
        text.encode(),
    )


def _blob(data: bytes) -> str:
    return "unhex('" + data.hex() + "')"


_ELEMENT = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\\]*(?:\\.[^",{}\\]*)*))\s*', re.DOTALL)


def _array_elements(text: str) -> list[str | None]:
    """Read '{1,NULL,"a b"}'. Raises `ValueError`, also for more than one dimension."""
    body = text.strip()
    if not (body.startswith("{") and body.endswith("}")):
        raise ValueError(text)
    body = body[1:-1]
    elements: list[str | None] = []
    at = 0
    while at < len(body) or elements:
        found = _ELEMENT.match(body, at)
        if found is None or (found[1] is None and found[2].strip() == ""):
            raise ValueError(text)
        quoted, bare = found.groups()
        if quoted is not None:
            elements.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        else:
            word = bare.strip()
            elements.append(None if word.upper() == "NULL" else re.sub(r"\\(.)", r"\1", word))
        at = found.end()
        if at == len(body):
            break
        if body[at] != ",":
            raise ValueError(text)
        at += 1
    return elements


def _array(elements: Sequence[str | None], oid: int) -> str:
    inside = ", ".join("NULL" if e is None else _text(e, oid) for e in elements)
    return f"CAST(ARRAY[{inside}] AS {duckdb_type(oid)}[])"


# Binary


def _binary(value: bytes, oid: int) -> str:
    if oid in _TEXTS or oid in (114, 3802):
        if oid == 3802:
            value = value[1:]  # the version of jsonb's format
        return _text(value.decode(), oid)
    if oid in _INTEGERS:
        return _typed_integer(int(_unpack(_INTEGERS[oid], value)), oid)
    if oid in ELEMENT_OIDS:
        return _binary_array(value, ELEMENT_OIDS[oid])
    reader = _READERS.get(oid)
    if reader is None:
        raise WireError(
            SqlState.FEATURE_NOT_SUPPORTED,
            f"parameters of type oid {oid} cannot be sent in the binary format",
        )
    return reader(value)


def _unpack(code: str, value: bytes) -> float:
    (number,) = struct.unpack(code, value)
    result: float = number
    return result


def _double(value: bytes, code: str, kind: str) -> str:
    return f"CAST('{_unpack(code, value)!r}' AS {kind})"


def _date(value: bytes) -> str:
    days = int(_unpack("!i", value))
    if days in (2**31 - 1, -(2**31)):
        return f"DATE '{'-' if days < 0 else ''}infinity'"
    if not -730_000 < days < 2_900_000:
        return f"(DATE '2000-01-01' + {days})"
    return f"DATE '{date(2000, 1, 1) + timedelta(days=days)}'"


def _timestamp(value: bytes, zone: str) -> str:
    micros = int(_unpack("!q", value))
    kind = "TIMESTAMPTZ" if zone else "TIMESTAMP"
    if micros in (2**63 - 1, -(2**63)):
        return f"CAST('{'-' if micros < 0 else ''}infinity' AS {kind})"
    return f"CAST('{_YEAR_2000 + timedelta(microseconds=micros)}{zone}' AS {kind})"


def _time(value: bytes) -> str:
    moment = _YEAR_2000 + timedelta(microseconds=int(_unpack("!q", value)))
    return f"CAST('{moment.time()}' AS TIME)"


def _time_and_zone(value: bytes) -> str:
    micros, west = struct.unpack("!qi", value)
    moment = (_YEAR_2000 + timedelta(microseconds=micros)).time()
    sign, seconds = ("-" if west > 0 else "+"), abs(west)
    return f"CAST('{moment}{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}' AS TIMETZ)"


def _interval(value: bytes) -> str:
    micros, days, months = struct.unpack("!qii", value)
    return f"(to_months({months}) + to_days({days}) + to_microseconds({micros}))"


def _numeric(value: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from("!hhHh", value)
    if sign == 0xC000:
        return "CAST('nan' AS DOUBLE)"
    if sign in (0xD000, 0xF000):
        return f"CAST('{'-' if sign == 0xF000 else ''}inf' AS DOUBLE)"
    groups = struct.unpack(f"!{count}h", value[8:])
    whole = "".join(f"{groups[i] if i < count else 0:04}" for i in range(weight + 1))
    behind = range(weight + 1, weight + 1 + (scale + 3) // 4)
    part = "".join(f"{groups[i] if 0 <= i < count else 0:04}" for i in behind)
    text = (whole.lstrip("0") or "0") + ("." + part[:scale] if scale else "")
    return _decimal(("-" if sign == 0x4000 else "") + text)


def _uuid(value: bytes) -> str:
    if len(value) != 16:
        raise ValueError("uuid")
    return f"CAST('{value.hex()}' AS UUID)"


def _bit_string(value: bytes) -> str:
    length = int(_unpack("!i", value[:4]))
    bits = "".join(f"{byte:08b}" for byte in value[4:])[:length]
    return f"CAST('{bits}' AS BIT)"


def _binary_array(value: bytes, oid: int) -> str:
    dimensions, _, element = struct.unpack_from("!iii", value)
    if dimensions == 0:
        return f"CAST(ARRAY[] AS {duckdb_type(oid)}[])"
    if dimensions != 1:
        raise WireError(
            SqlState.FEATURE_NOT_SUPPORTED, "arrays of more than one dimension cannot be sent"
        )
    (count,) = struct.unpack_from("!i", value, 12)
    at, elements = 20, []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", value, at)
        at += 4
        if length < 0:
            elements.append("NULL")
            continue
        piece = value[at : at + length]
        if len(piece) != length:
            raise ValueError("cut off")
        elements.append(_binary(piece, element))
        at += length
    return f"CAST(ARRAY[{', '.join(elements)}] AS {duckdb_type(oid)}[])"


def _wrong_boolean(value: bytes) -> NoReturn:
    raise ValueError(value)


_READERS: Mapping[int, Callable[[bytes], str]] = {
    16: lambda v: {b"\1": "TRUE", b"\0": "FALSE"}.get(v) or _wrong_boolean(v),
    17: _blob,
    700: lambda v: _double(v, "!f", "FLOAT"),
    701: lambda v: _double(v, "!d", "DOUBLE"),
    1082: _date,
    1083: _time,
    1114: lambda v: _timestamp(v, ""),
    1184: lambda v: _timestamp(v, "+00"),
    1186: _interval,
    1266: _time_and_zone,
    1562: _bit_string,
    1700: _numeric,
    2950: _uuid,
}
