"""Results as text, and how they compare with what a file expects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import duckdb

from tests.sqllogic.records import SORT_MODES, UnsupportedError

NUMERIC = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*)$")
HASH = re.compile(r"^(\d+) values hashing to ([0-9a-f]{32})$")

Texts = list[list[str]]


class Writer:
    """Writes values as DuckDB does, by asking it to cast them."""

    def __init__(self) -> None:
        self._connection = duckdb.connect()

    def texts(self, rows: Sequence[Sequence[Any]], types: Sequence[str]) -> Texts:
        """Write rows; NULL and the empty text as the format has them."""
        columns = [self._column([row[i] for row in rows], type_) for i, type_ in enumerate(types)]
        return [list(row) for row in zip(*columns, strict=True)] if columns else []

    def _column(self, values: list[Any], type_: str) -> list[str]:
        if type_ in ("FLOAT", "DOUBLE"):  # a list of floats is no way in for NaN
            values = [None if value is None else repr(value) for value in values]
        try:
            found = self._connection.execute(
                f"SELECT CAST(unnest(CAST($values AS {type_}[])) AS VARCHAR)", {"values": values}
            ).fetchall()
            texts = [row[0] for row in found]
        except duckdb.Error:  # a type that Python's values do not cast back to
            texts = [None if value is None else str(value) for value in values]
        return ["NULL" if t is None else t.replace("\0", "\\0") or "(empty)" for t in texts]

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()


def compare(actual: Texts, types: Sequence[str], expected: Sequence[str], mode: str) -> str:
    """Say what differs, '' when nothing does. Raises `UnsupportedError`."""
    if mode not in SORT_MODES:
        raise UnsupportedError(f"sort mode {mode}")
    if any(line.startswith("<FILE>:") for line in expected):
        raise UnsupportedError("results in another file")
    width = len(types)
    hashed = HASH.match(expected[0]) if len(expected) == 1 else None
    if hashed:
        return _hashes(actual, mode, int(hashed[1]), hashed[2])
    wanted = _rows(expected, len(actual), width)
    if wanted is None:
        return f"{len(actual)} rows of {width} columns, expected {len(expected)} values or rows"
    if mode == "valuesort":
        actual, wanted = _one_column(actual), _one_column(wanted)
        types = ["VARCHAR"]
    if mode != "nosort":
        actual, wanted = sorted(actual), sorted(wanted)
    for number, (row, line) in enumerate(zip(actual, wanted, strict=True)):
        for value, want, type_ in zip(row, line, types, strict=True):
            if not same(value, want, type_):
                return f"row {number + 1}: {value!r}, expected {want!r}"
    return ""


def same(value: str, wanted: str, type_: str) -> bool:
    """Compare one value as DuckDB's own runner does."""
    if value == wanted:
        return True
    if wanted.startswith("<REGEX>:"):
        return re.fullmatch(wanted[8:], value, re.DOTALL) is not None
    if wanted.startswith("<!REGEX>:"):
        return re.fullmatch(wanted[9:], value, re.DOTALL) is None
    if "NULL" in (value, wanted):
        return False
    if type_ == "BOOLEAN":
        words = {"1": "true", "0": "false"}
        return value == words.get(wanted.lower(), wanted.lower())
    return bool(NUMERIC.match(type_)) and _close(value, wanted, type_)


def _close(value: str, wanted: str, type_: str) -> bool:
    try:
        left, right = float(value), float(wanted)
    except ValueError:
        return False
    if type_ in ("FLOAT", "DOUBLE"):
        return abs(left - right) <= abs(right) * 0.01 + 1e-8  # DuckDB's own tolerance
    return left == right


def _rows(expected: Sequence[str], count: int, width: int) -> Texts | None:
    """Values are given one row per line, parted by tabs, or one value per line."""
    by_tab = [line.split("\t") for line in expected]
    if len(expected) == count and all(len(row) == width for row in by_tab):
        return by_tab
    if width and len(expected) == count * width:
        return [list(expected[i : i + width]) for i in range(0, len(expected), width)]
    return None


def _one_column(rows: Texts) -> Texts:
    return [[value] for row in rows for value in row]


def digest(rows: Texts, mode: str) -> str:
    """Hash values as the format does."""
    if mode == "rowsort":
        rows = sorted(rows)
    values = [value for row in rows for value in row]
    if mode == "valuesort":
        values.sort()
    return hashlib.md5("".join(value + "\n" for value in values).encode()).hexdigest()


def _hashes(actual: Texts, mode: str, count: int, wanted: str) -> str:
    values = sum(map(len, actual))
    if values != count:
        return f"{values} values, expected {count}"
    found = digest(actual, mode)
    return "" if found == wanted else f"values hash to {found}, expected {wanted}"
