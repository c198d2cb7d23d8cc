"""SQL types of answers: what a model may say for each, and the text DuckDB casts to it.

The promise of every type: `canonical` either raises `InvalidAnswer` or returns a
value whose text (`answers.canonical_text`) DuckDB casts to the type, by the
expression that `cast_sql` writes, without error and with the intended value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from typing import Any, NoReturn
from uuid import UUID

from quackllm.errors import InvalidAnswer

JsonSchema = dict[str, Any]

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,9})?", re.ASCII)
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_OFFSET = r"(Z|[+-][0-9]{2}:?[0-9]{2})"
_INT64 = range(-(2**63), 2**63)
_FLOAT_MAX = 3.4028234663852886e38
_DOUBLE_MAX = 1.7976931348623157e308
_TRUE = frozenset({"true", "yes"})
_FALSE = frozenset({"false", "no"})


def reject(path: str, value: object, wanted: str) -> NoReturn:
    """Raise the `InvalidAnswer` that says where, what was there, and what was wanted."""
    shown = repr(value) if isinstance(value, str) else str(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    if value is None:
        shown = "null"
    raise InvalidAnswer(f"{path}: {shown} is not {wanted}")


def quote_name(name: str) -> str:
    """Quote an identifier for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Quote a text as a DuckDB literal."""
    return "'" + text.replace("'", "''") + "'"


def check_utf8(text: str, path: str) -> str:
    """Return the text; lone surrogates have no UTF-8 form and are refused."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidAnswer(
            f"{path}: lone surrogate at character {error.start}: not valid Unicode text"
        ) from None
    return text


def read_boolean(text: str) -> bool | None:
    """Read true/false/yes/no in any case; None when it is none of them."""
    word = text.strip().casefold()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


def match_label(text: str, labels: tuple[str, ...]) -> str | None:
    """Return the label that the text is, exactly or else by case-insensitive comparison."""
    if text in labels:
        return text
    same = [label for label in labels if label.casefold() == text.casefold()]
    return same[0] if len(same) == 1 else None


def nullable(schema: JsonSchema) -> JsonSchema:
    """Return the schema with null admitted beside it."""
    kind = schema["type"]
    if isinstance(kind, list):
        return schema if "null" in kind else {**schema, "type": [*kind, "null"]}
    widened = {**schema, "type": [kind, "null"]}
    if "enum" in schema:
        widened["enum"] = [*schema["enum"], None]
    return widened


def _number(value: object) -> Decimal | None:
    """Read a JSON number, or a text that is plainly one; None when it is neither."""
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value)) if abs(value) <= _DOUBLE_MAX else None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        try:
            return Decimal(value.strip())
        except InvalidOperation:
            return None
    return None


@dataclass(frozen=True)
class SqlType:
    """A DuckDB type that answers may have. The base class is abstract."""

    @property
    def nested(self) -> bool:
        """True when the canonical text is a JSON document rather than plain text."""
        return False

    def to_duckdb(self) -> str:
        """Return the type as DuckDB reads it."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return the shape of a value in the words of a prompt."""
        raise NotImplementedError

    def json_schema(self) -> JsonSchema:
        """Return the JSON schema of a value that is not null."""
        raise NotImplementedError

    def canonical(self, value: Any, path: str = "$") -> Any:
        """Return the value of a parsed JSON value, JSON-able, in its one written form.

        Floating-point numbers may arrive as `float` or, exactly, as `Decimal`.
        Raises `InvalidAnswer`, with the path of what is wrong.
        """
        raise NotImplementedError

    def canonical_or_null(self, value: Any, path: str) -> Any:
        """Return `canonical`, null being a value."""
        return None if value is None else self.canonical(value, path)

    def hollow(self) -> Any:
        """Return a JSON-able value whose parts are there and null; null for a plain type."""
        return None

    def cast_sql(self, expression: str) -> str:
        """Return the SQL that makes a value of a VARCHAR expression of canonical text."""
        inner = f"CAST({expression} AS JSON)" if self.nested else expression
        return f"CAST({inner} AS {self.to_duckdb()})"


@dataclass(frozen=True)
class Boolean(SqlType):
    """BOOLEAN."""

    def to_duckdb(self) -> str:
        return "BOOLEAN"

    def describe(self) -> str:
        return "true or false"

    def json_schema(self) -> JsonSchema:
        return {"type": "boolean"}

    def canonical(self, value: Any, path: str = "$") -> bool:
        """Accept true and false, and the texts true, false, yes, no."""
        if isinstance(value, bool):
            return value
        read = read_boolean(value) if isinstance(value, str) else None
        return reject(path, value, "a BOOLEAN") if read is None else read


@dataclass(frozen=True)
class Integer(SqlType):
    """An integer type: `bits` wide, signed or not."""

    name: str
    bits: int
    signed: bool = True

    @property
    def low(self) -> int:
        """The smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value."""
        return (1 << (self.bits - self.signed)) - 1

    def to_duckdb(self) -> str:
        return self.name

    def describe(self) -> str:
        return "integer"

    def json_schema(self) -> JsonSchema:
        return {"type": "integer"}

    def canonical(self, value: Any, path: str = "$") -> int | str:
        """Accept whole numbers in range; 5.0 is whole, 5.5 is refused, not rounded.

        Beyond 64 bits the digits are returned as text, which no JSON reader rounds.
        """
        number = _number(value)
        if number is None:
            reject(path, value, f"a whole number ({self.name})")
        if not self.low <= number <= self.high:
            reject(path, value, f"within {self.name} ({self.low} to {self.high})")
        if number != number.to_integral_value():
            reject(path, value, f"a whole number ({self.name})")
        whole = int(number)
        return whole if whole in _INT64 else str(whole)


@dataclass(frozen=True)
class Float(SqlType):
    """FLOAT or DOUBLE."""

    name: str

    def to_duckdb(self) -> str:
        return self.name

    def describe(self) -> str:
        return "number"

    def json_schema(self) -> JsonSchema:
        return {"type": "number"}

    def canonical(self, value: Any, path: str = "$") -> float:
        """Accept finite numbers in range."""
        number = _number(value)
        if number is None:
            reject(path, value, f"a {self.name}")
        largest = _FLOAT_MAX if self.name == "FLOAT" else _DOUBLE_MAX
        nearest = float(number)
        if abs(nearest) > largest:
            reject(path, value, f"within the range of {self.name}")
        return nearest


@dataclass(frozen=True)
class DecimalType(SqlType):
    """DECIMAL(precision, scale)."""

    precision: int
    scale: int

    def to_duckdb(self) -> str:
        return f"DECIMAL({self.precision},{self.scale})"

    def describe(self) -> str:
        return "number"

    def json_schema(self) -> JsonSchema:
        return {"type": "number"}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Round further fractional digits half away from zero, as DuckDB's cast does.

        The digits are returned as text: DuckDB 1.5 reads JSON numbers as DOUBLE.
        """
        number = _number(value)
        if number is None:
            reject(path, value, f"a {self.to_duckdb()}")
        if number != 0 and number.adjusted() >= self.precision - self.scale:
            reject(path, value, f"within {self.to_duckdb()}")
        with localcontext() as context:
            context.prec = 60
            rounded = number.quantize(Decimal(1).scaleb(-self.scale), ROUND_HALF_UP)
        if len(rounded.as_tuple().digits) > self.precision:
            reject(path, value, f"within {self.to_duckdb()}")
        return f"{rounded:f}"


@dataclass(frozen=True)
class Varchar(SqlType):
    """VARCHAR."""

    def to_duckdb(self) -> str:
        return "VARCHAR"

    def describe(self) -> str:
        return "text"

    def json_schema(self) -> JsonSchema:
        return {"type": "string"}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept text, and a number as its digits."""
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            reject(path, value, "a text")
        return check_utf8(value, path)

    def cast_sql(self, expression: str) -> str:
        """Return the expression: text needs no cast."""
        return expression


@dataclass(frozen=True)
class Date(SqlType):
    """DATE."""

    def to_duckdb(self) -> str:
        return "DATE"

    def describe(self) -> str:
        return "date YYYY-MM-DD"

    def json_schema(self) -> JsonSchema:
        return {"type": "string", "format": "date"}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept YYYY-MM-DD; other orders of day and month are ambiguous."""
        text = value.strip() if isinstance(value, str) else ""
        try:
            if re.fullmatch(_DATE, text):
                return date.fromisoformat(text).isoformat()
        except ValueError:
            pass
        return reject(path, value, "a DATE (YYYY-MM-DD)")


@dataclass(frozen=True)
class Time(SqlType):
    """TIME."""

    def to_duckdb(self) -> str:
        return "TIME"

    def describe(self) -> str:
        return "time HH:MM:SS"

    def json_schema(self) -> JsonSchema:
        # The JSON schema format "time" would demand a time zone.
        return {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]:[0-5][0-9]$"}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept HH:MM, HH:MM:SS and fractions of a second, without a time zone."""
        text = value.strip() if isinstance(value, str) else ""
        try:
            if re.fullmatch(_TIME, text):
                return time.fromisoformat(text).isoformat()
        except ValueError:
            pass
        return reject(path, value, "a TIME (HH:MM:SS)")


@dataclass(frozen=True)
class Timestamp(SqlType):
    """TIMESTAMP, without a time zone."""

    def to_duckdb(self) -> str:
        return "TIMESTAMP"

    def describe(self) -> str:
        return "timestamp YYYY-MM-DDTHH:MM:SS"

    def json_schema(self) -> JsonSchema:
        # The JSON schema format "date-time" would demand a time zone.
        moment = "^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]$"
        return {"type": "string", "pattern": moment}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept ISO 8601; a date alone is its midnight, as in DuckDB; Z is dropped."""
        text = value.strip() if isinstance(value, str) else ""
        try:
            if re.fullmatch(rf"{_DATE}([T ]{_TIME}Z?)?", text):
                return datetime.fromisoformat(text.rstrip("Z")).isoformat(sep=" ")
        except ValueError:
            pass
        return reject(path, value, "a TIMESTAMP (YYYY-MM-DDTHH:MM:SS, no time zone)")


@dataclass(frozen=True)
class TimestampTz(SqlType):
    """TIMESTAMP WITH TIME ZONE."""

    def to_duckdb(self) -> str:
        return "TIMESTAMP WITH TIME ZONE"

    def describe(self) -> str:
        return "timestamp YYYY-MM-DDTHH:MM:SS+HH:MM"

    def json_schema(self) -> JsonSchema:
        return {"type": "string", "format": "date-time"}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept ISO 8601 with Z or an offset; without one the instant is unknown."""
        text = value.strip() if isinstance(value, str) else ""
        try:
            if re.fullmatch(rf"{_DATE}[T ]{_TIME}{_OFFSET}", text):
                return datetime.fromisoformat(text).astimezone(UTC).isoformat(sep=" ")
        except (ValueError, OverflowError):
            pass
        return reject(path, value, "a TIMESTAMPTZ (YYYY-MM-DDTHH:MM:SS with Z or +HH:MM)")


@dataclass(frozen=True)
class Uuid(SqlType):
    """UUID."""

    def to_duckdb(self) -> str:
        return "UUID"

    def describe(self) -> str:
        return "UUID"

    def json_schema(self) -> JsonSchema:
        return {"type": "string", "format": "uuid"}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept the usual form of 8-4-4-4-12 hexadecimal digits."""
        text = value.strip() if isinstance(value, str) else ""
        if re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
            return str(UUID(text))
        return reject(path, value, "a UUID")


@dataclass(frozen=True)
class Enum(SqlType):
    """ENUM of texts."""

    values: tuple[str, ...]

    def to_duckdb(self) -> str:
        return f"ENUM({', '.join(map(quote_text, self.values))})"

    def describe(self) -> str:
        return "one of " + ", ".join(f'"{value}"' for value in self.values)

    def json_schema(self) -> JsonSchema:
        return {"type": "string", "enum": list(self.values)}

    def canonical(self, value: Any, path: str = "$") -> str:
        """Accept a member, exactly or in other case when that is unambiguous."""
        found = match_label(value, self.values) if isinstance(value, str) else None
        return reject(path, value, self.describe()) if found is None else found
