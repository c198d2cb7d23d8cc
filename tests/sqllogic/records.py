"""Reads DuckDB's sqllogictest format into records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

SORT_MODES = ("nosort", "rowsort", "valuesort")
LOOPS = ("loop", "foreach", "concurrentloop", "concurrentforeach")
IGNORED = ("hash-threshold", "tags", "set-ignore-error-messages")
COLLECTIONS = {
    "<integral>": ("tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint",
                   "usmallint", "uinteger", "ubigint", "uhugeint"),
    "<signed>": ("tinyint", "smallint", "integer", "bigint", "hugeint"),
    "<unsigned>": ("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    "<numeric>": ("tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint",
                  "usmallint", "uinteger", "ubigint", "uhugeint", "float", "double"),
    "<alltypes>": ("tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint",
                   "usmallint", "uinteger", "ubigint", "uhugeint", "float", "double",
                   "bool", "interval", "varchar"),
    "<compression>": ("none", "uncompressed", "rle", "bitpacking", "dictionary", "fsst"),
}  # fmt: skip
"""Names that foreach replaces by several values."""


class UnsupportedError(Exception):
    """The file needs something that is not read here; it says what."""


@dataclass(frozen=True)
class Record:
    """One step of a test.

    kind: 'statement', 'query', or a directive such as 'require' or 'load'.
    words: what follows the kind on its line. expected: the lines after `----`; None
    when there is no such line.
    """

    kind: str
    words: tuple[str, ...]
    line: int
    sql: str = ""
    expected: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Loop:
    """Records that are run once for each value of a variable."""

    variable: str
    values: tuple[str, ...]
    body: tuple[Record | Loop, ...] = field(default=())


def read(text: str) -> tuple[Record | Loop, ...]:
    """Read a file. Raises `UnsupportedError`."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    reader = _Reader(lines)
    return tuple(reader.records())


def unrolled(records: Sequence[Record | Loop]) -> Iterator[Record]:
    """Yield the records in the order in which they run, variables filled in."""
    for record in records:
        if isinstance(record, Record):
            yield record
            continue
        for value in record.values:
            for inner in unrolled(record.body):
                yield _filled(inner, "${" + record.variable + "}", value)


def _filled(record: Record, name: str, value: str) -> Record:
    expected = record.expected
    return replace(
        record,
        sql=record.sql.replace(name, value),
        words=tuple(word.replace(name, value) for word in record.words),
        expected=None if expected is None else tuple(e.replace(name, value) for e in expected),
    )


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 0

    def records(self, inside: bool = False) -> Iterator[Record | Loop]:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            words = line.split()
            if not words or line.startswith("#"):
                continue
            kind = words[0]
            if kind == "endloop" and inside:
                return
            if kind in LOOPS:
                variable, values = _loop(words)
                yield Loop(variable, values, tuple(self.records(inside=True)))
            elif kind in ("statement", "query"):
                yield self._with_sql(kind, tuple(words[1:]))
            elif kind not in IGNORED:
                yield Record(kind, tuple(words[1:]), self._at)
        if inside:
            raise UnsupportedError("a loop without endloop")

    def _with_sql(self, kind: str, words: tuple[str, ...]) -> Record:
        line, sql, expected = self._at, [], None
        while self._at < len(self._lines) and self._lines[self._at].strip():
            text = self._lines[self._at]
            self._at += 1
            if text.strip() == "----":
                expected = self._until_blank()
                break
            sql.append(text)
        return Record(kind, words, line, "\n".join(sql), expected)

    def _until_blank(self) -> tuple[str, ...]:
        found = []
        while self._at < len(self._lines) and self._lines[self._at].strip("\r\n"):
            found.append(self._lines[self._at])
            self._at += 1
        return tuple(found)


def _loop(words: list[str]) -> tuple[str, tuple[str, ...]]:
    if words[0].endswith("loop"):
        return words[1], tuple(map(str, range(int(words[2]), int(words[3]))))
    values: list[str] = []
    for word in words[2:]:
        if word.startswith("!"):
            values = [value for value in values if value != word[1:]]
        else:
            values.extend(COLLECTIONS.get(word.lower(), (word,)))
    return words[1], tuple(values)
