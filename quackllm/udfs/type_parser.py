"""DuckDB's text of a type → `SqlType`, by recursive descent.

::

    type   := base ('[' ']')*
    base   := STRUCT '(' name type (',' name type)* ')'
            | MAP '(' type ',' type ')'
            | ENUM '(' text (',' text)* ')'
            | DECIMAL ['(' digits [',' digits] ')']
            | TIMESTAMP [(WITH | WITHOUT) TIME ZONE]
            | word
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from quackllm.errors import BindError
from quackllm.udfs.base import Declaration, Embedding
from quackllm.udfs.nested_types import Json, ListType, MapType, StructField, StructType
from quackllm.udfs.prompt import did_you_mean
from quackllm.udfs.types import (
    Boolean,
    Date,
    DecimalType,
    Enum,
    Float,
    Integer,
    SqlType,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Varchar,
)
from quackllm.udfs.vectors import Vector

SUPPORTED = (
    "BOOLEAN, TINYINT, SMALLINT, INTEGER, BIGINT, HUGEINT and their unsigned forms, FLOAT, "
    "DOUBLE, DECIMAL(p,s), VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, UUID, JSON, "
    "ENUM('a', 'b'), T[], STRUCT(name T), MAP(VARCHAR, T)"
)

_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[^\W\d]\w*)|(?P<digits>[0-9]+)|(?P<name>"(?:[^"]|"")*")"""
    r"""|(?P<text>'(?:[^']|'')*')|(?P<sign>[()\[\],]))"""
)


def _named_types() -> Mapping[str, SqlType]:
    """Return every name of a type without parameters, aliases included."""
    by_type: dict[SqlType, str] = {
        Boolean(): "BOOLEAN BOOL LOGICAL",
        Integer("TINYINT", 8): "TINYINT INT1",
        Integer("SMALLINT", 16): "SMALLINT INT2 SHORT",
        Integer("INTEGER", 32): "INTEGER INT INT4 SIGNED",
        Integer("BIGINT", 64): "BIGINT INT8 LONG",
        Integer("HUGEINT", 128): "HUGEINT INT128",
        Integer("UTINYINT", 8, signed=False): "UTINYINT UINT8",
        Integer("USMALLINT", 16, signed=False): "USMALLINT UINT16",
        Integer("UINTEGER", 32, signed=False): "UINTEGER UINT32",
        Integer("UBIGINT", 64, signed=False): "UBIGINT UINT64",
        Integer("UHUGEINT", 128, signed=False): "UHUGEINT UINT128",
        Float("FLOAT"): "FLOAT FLOAT4 REAL",
        Float("DOUBLE"): "DOUBLE FLOAT8",
        Varchar(): "VARCHAR TEXT STRING CHAR BPCHAR",
        Date(): "DATE",
        Time(): "TIME",
        TimestampTz(): "TIMESTAMPTZ",
        Uuid(): "UUID",
        Json(): "JSON",
    }
    return MappingProxyType(
        {name: type_ for type_, names in by_type.items() for name in names.split()}
    )


_NAMED = _named_types()


@dataclass
class _Parser:
    """A cursor over the text of one type."""

    text: str
    at: int = 0
    kind: str = field(default="", init=False)
    token: str = field(default="", init=False)
    start: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.advance()

    def advance(self) -> str:
        """Move to the next token and return the one just passed."""
        passed = self.token
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            rest = self.text[self.at :]
            self.start = self.at + len(rest) - len(rest.lstrip())
            self.kind, self.token = ("other", self.text[self.start]) if rest.strip() else ("", "")
            return passed
        self.kind = str(found.lastgroup)
        self.token, self.start, self.at = found[self.kind], found.start(self.kind), found.end()
        return passed

    def fail(self, problem: str, hint: str = ".") -> NoReturn:
        raise BindError(
            f"the type {self.text!r} cannot be read: {problem} at character "
            f"{self.start + 1}{hint} Supported types: {SUPPORTED}"
        )

    def accept(self, token: str) -> bool:
        """Pass the token if it is next; words are compared in upper case."""
        if self.token.upper() != token or self.kind in ("name", "text"):
            return False
        self.advance()
        return True

    def expect(self, token: str) -> None:
        if not self.accept(token):
            self.fail(f"expected {token!r}, found {self.token or 'the end'!r}")

    def type(self) -> SqlType:
        found = self.base()
        while self.accept("["):
            if self.kind == "digits":
                self.fail("arrays of a fixed size are not supported, write T[]")
            self.expect("]")
            found = ListType(found)
        return found

    def base(self) -> SqlType:
        word = self.token.upper()
        if self.kind != "word":
            self.fail(f"expected a type, found {self.token or 'the end'!r}")
        readers = {
            "STRUCT": self.struct,
            "MAP": self.map,
            "ENUM": self.enum,
            "DECIMAL": self.decimal,
            "NUMERIC": self.decimal,
            "DEC": self.decimal,
            "TIMESTAMP": self.timestamp,
            "DATETIME": self.timestamp,
        }
        if word in readers:
            self.advance()
            return readers[word]()
        if word not in _NAMED:
            hint = did_you_mean(word, (*_NAMED, *readers))
            self.fail(f"unknown or unsupported type {self.token!r}", hint)
        self.advance()
        if word == "DOUBLE":
            self.accept("PRECISION")
        if isinstance(_NAMED[word], Varchar) and self.accept("("):
            self.digits()  # DuckDB ignores the length of VARCHAR(n), too
            self.expect(")")
        return _NAMED[word]

    def struct(self) -> SqlType:
        self.expect("(")
        fields: list[StructField] = []
        while True:
            if self.kind not in ("word", "name"):
                self.fail(f"expected the name of a field, found {self.token or 'the end'!r}")
            quoted = self.kind == "name"
            name = self.token[1:-1].replace('""', '"') if quoted else self.token
            if name.casefold() in {each.name.casefold() for each in fields}:
                self.fail(f"the field {name!r} appears twice")
            if not name:
                self.fail("the name of a field is empty")
            self.advance()
            fields.append(StructField(name, self.type()))
            if not self.accept(","):
                self.expect(")")
                return StructType(tuple(fields))

    def map(self) -> SqlType:
        self.expect("(")
        key_at = self.start
        if not isinstance(self.type(), Varchar):
            self.start = key_at
            self.fail("the keys of a MAP must be VARCHAR")
        self.expect(",")
        value = self.type()
        self.expect(")")
        return MapType(value)

    def enum(self) -> SqlType:
        self.expect("(")
        values: list[str] = []
        while True:
            if self.kind != "text":
                self.fail(f"expected a text in single quotes, found {self.token or 'the end'!r}")
            value = self.token[1:-1].replace("''", "'")
            if value in values:
                self.fail(f"the value {value!r} appears twice")
            self.advance()
            values.append(value)
            if not self.accept(","):
                self.expect(")")
                return Enum(tuple(values))

    def digits(self) -> int:
        if self.kind != "digits":
            self.fail(f"expected a number, found {self.token or 'the end'!r}")
        return int(self.advance()[:9])

    def decimal(self) -> SqlType:
        if not self.accept("("):
            return DecimalType(18, 3)
        start = self.start
        precision, scale = self.digits(), 0
        if self.accept(","):
            scale = self.digits()
        if not (1 <= precision <= 38 and scale <= precision):
            self.start = start
            self.fail("DECIMAL(p,s) needs 1 <= p <= 38 and s <= p,")
        self.expect(")")
        return DecimalType(precision, scale)

    def timestamp(self) -> SqlType:
        zone = self.accept("WITH")
        if zone or self.accept("WITHOUT"):
            self.expect("TIME")
            self.expect("ZONE")
        return TimestampTz() if zone else Timestamp()


def parse_type(text: str) -> SqlType:
    """Read a DuckDB type. Raises `BindError` with the position and what is supported."""
    parser = _Parser(text)
    found = parser.type()
    if parser.token:
        parser.fail(f"unexpected {parser.token!r}")
    return found


def is_type(word: str) -> bool:
    """Whether a word is the name of a type that takes no parameters."""
    return word.upper() in _NAMED


def result_type(declaration: Declaration) -> SqlType:
    """Return the type of a function's value."""
    form = declaration.answer
    if isinstance(form, Embedding):
        return Vector(form.dimensions or 1)
    return parse_type(declaration.returns)


def parse_described_type(text: str) -> tuple[SqlType, str]:
    """Read `TYPE` or `TYPE: description`; the description is '' when there is none.

    Raises `BindError` with the position and what is supported.
    """
    parser = _Parser(text)
    found = parser.type()
    if not parser.token:
        return found, ""
    if parser.token != ":":
        parser.fail(f"unexpected {parser.token!r}")
    return found, " ".join(text[parser.start + 1 :].split())
