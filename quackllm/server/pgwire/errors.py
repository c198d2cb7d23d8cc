"""DuckDB's and quackllm's errors as PostgreSQL clients expect them: SQLSTATE, position, hint."""

from __future__ import annotations

import re
from enum import StrEnum

import duckdb

from quackllm import errors


class SqlState(StrEnum):
    """The SQLSTATEs in use; https://www.postgresql.org/docs/current/errcodes-appendix.html."""

    PROTOCOL_VIOLATION = "08P01"
    FEATURE_NOT_SUPPORTED = "0A000"
    NUMERIC_OUT_OF_RANGE = "22003"
    INVALID_DATETIME = "22007"
    DATETIME_OVERFLOW = "22008"
    CHARACTER = "22021"
    INVALID_PARAMETER = "22023"
    BAD_COPY_FORMAT = "22P04"
    INVALID_TEXT = "22P02"
    INVALID_BINARY = "22P03"
    NOT_NULL = "23502"
    FOREIGN_KEY = "23503"
    UNIQUE = "23505"
    CHECK = "23514"
    CONSTRAINT = "23000"
    INVALID_CURSOR = "34000"
    ACTIVE_TRANSACTION = "25001"
    READ_ONLY = "25006"
    NO_TRANSACTION = "25P01"
    FAILED_TRANSACTION = "25P02"
    INVALID_STATEMENT_NAME = "26000"
    INVALID_AUTHORIZATION = "28000"
    INVALID_PASSWORD = "28P01"
    INVALID_SAVEPOINT = "3B001"
    UNKNOWN_DATABASE = "3D000"
    UNKNOWN_SCHEMA = "3F000"
    SERIALIZATION = "40001"
    SYNTAX = "42601"
    PRIVILEGE = "42501"
    UNKNOWN_COLUMN = "42703"
    AMBIGUOUS_COLUMN = "42702"
    UNKNOWN_FUNCTION = "42883"
    UNKNOWN_TABLE = "42P01"
    UNKNOWN_OBJECT = "42704"
    UNKNOWN_PARAMETER = "42P02"
    DUPLICATE_CURSOR = "42P03"
    DUPLICATE_STATEMENT = "42P05"
    DUPLICATE_TABLE = "42P07"
    GROUPING = "42803"
    DATATYPE_MISMATCH = "42804"
    BIND = "42000"
    OUT_OF_MEMORY = "53200"
    TOO_MANY_CONNECTIONS = "53300"
    LIMIT_EXCEEDED = "53400"
    CANCELED = "57014"
    SHUTDOWN = "57P01"
    SYSTEM = "58000"
    IO = "58030"
    INTERNAL = "XX000"


class WireError(Exception):
    """What goes to the client as an ErrorResponse. position counts characters from 1."""

    def __init__(
        self,
        state: SqlState,
        message: str,
        *,
        detail: str = "",
        hint: str = "",
        position: int = 0,
    ) -> None:
        super().__init__(message)
        self.state = state
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position


def nul_in(what: str) -> WireError:
    """Return the error for a text that holds NUL, which clients take for the end of a text."""
    return WireError(SqlState.CHARACTER, f"{what} holds a NUL character, which no text may")


_BY_CLASS: tuple[tuple[type[BaseException], SqlState], ...] = (
    (errors.StatementCancelled, SqlState.CANCELED),
    (errors.SettingError, SqlState.INVALID_PARAMETER),
    (errors.ModelNotAllowed, SqlState.PRIVILEGE),
    (errors.ProviderError, SqlState.SYSTEM),
    (errors.CallError, SqlState.SYSTEM),
    (duckdb.InterruptException, SqlState.CANCELED),
    (duckdb.ParserException, SqlState.SYNTAX),
    (duckdb.SyntaxException, SqlState.SYNTAX),
    (duckdb.BinderException, SqlState.BIND),
    (duckdb.CatalogException, SqlState.UNKNOWN_OBJECT),
    (duckdb.ConversionException, SqlState.INVALID_TEXT),
    (duckdb.OutOfRangeException, SqlState.NUMERIC_OUT_OF_RANGE),
    (duckdb.ConstraintException, SqlState.CONSTRAINT),
    (duckdb.TransactionException, SqlState.NO_TRANSACTION),
    (duckdb.OutOfMemoryException, SqlState.OUT_OF_MEMORY),
    (duckdb.PermissionException, SqlState.PRIVILEGE),
    (duckdb.NotImplementedException, SqlState.FEATURE_NOT_SUPPORTED),
    (duckdb.IOException, SqlState.IO),
    (duckdb.HTTPException, SqlState.IO),
    (duckdb.TypeMismatchException, SqlState.DATATYPE_MISMATCH),
    (duckdb.InvalidTypeException, SqlState.DATATYPE_MISMATCH),
    (duckdb.InvalidInputException, SqlState.INVALID_PARAMETER),
)
"""The first class that fits decides, unless the words of the message say more."""

_BY_WORDS: tuple[tuple[str, SqlState], ...] = (
    (r"Referenced column .* not found|column .* does not exist", SqlState.UNKNOWN_COLUMN),
    (r"does not have a column", SqlState.UNKNOWN_COLUMN),
    (r"Ambiguous reference to column", SqlState.AMBIGUOUS_COLUMN),
    (r"Referenced table .* not found|Table with name .* does not exist", SqlState.UNKNOWN_TABLE),
    (r"Function with name .* does not exist|No function matches", SqlState.UNKNOWN_FUNCTION),
    (r"Schema with name .* does not exist", SqlState.UNKNOWN_SCHEMA),
    (r"Values were not provided for", SqlState.UNKNOWN_PARAMETER),
    (r"already exists", SqlState.DUPLICATE_TABLE),
    (r"must appear in the GROUP BY", SqlState.GROUPING),
    (r"Cannot (?:compare|mix|combine)|Could not find a common type", SqlState.DATATYPE_MISMATCH),
    (r"(?:date|time|timestamp) field value out of range", SqlState.DATETIME_OVERFLOW),
    (r"out of range|Overflow", SqlState.NUMERIC_OUT_OF_RANGE),
    (r"invalid (?:date|time|timestamp) field", SqlState.INVALID_DATETIME),
    (r"NOT NULL constraint", SqlState.NOT_NULL),
    (r"[Dd]uplicate key|UNIQUE constraint", SqlState.UNIQUE),
    (r"CHECK constraint", SqlState.CHECK),
    (r"foreign key constraint", SqlState.FOREIGN_KEY),
    (r"[Cc]onflict", SqlState.SERIALIZATION),
    (r"transaction is aborted", SqlState.FAILED_TRANSACTION),
    (r"within a transaction|active transaction", SqlState.ACTIVE_TRANSACTION),
    (r"read-only", SqlState.READ_ONLY),
)  # fmt: skip

_WORDED = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.ConstraintException,
    duckdb.TransactionException,
    duckdb.InvalidInputException,
)
"""Classes whose messages are looked at: elsewhere the words may be the user's data."""

_BY_NAME = {
    name.removesuffix("Exception").lower(): kind
    for name, kind in vars(duckdb).items()
    if isinstance(kind, type) and issubclass(kind, duckdb.Error)
}
"""DuckDB's classes of errors by what their messages begin with, without blanks."""

_EXCERPT = re.compile(r"\n\nLINE (\d+): (.*)\n( *\^+)", re.DOTALL)
_HINTS = re.compile(r"\n(?:Did you mean|Candidate bindings|Hint:|\s*Candidate functions)[\s\S]*$")
_LIMIT = re.compile(r"\bllm_max_\w+")


def of_stream(error: Exception) -> Exception:
    """Return DuckDB's error for what reading its rows through Arrow has made of it.

    Arrow keeps the message alone: 'Conversion Error: ...' in an `OSError`.
    """
    name, found, _ = str(error).partition(" Error: ")
    kind = _BY_NAME.get(name.replace(" ", "").lower())
    if isinstance(error, duckdb.Error) or not found or kind is None:
        return error
    return kind(str(error))


def moved_up(error: Exception, lines: int | None) -> Exception:
    """Count the line of an error's excerpt without those before it; without a place for None."""
    message = str(error)
    found = _EXCERPT.search(message)
    if found is None or lines == 0 or not isinstance(error, duckdb.Error):
        return error
    head, tail = message[: found.start()], message[found.end() :]
    if lines is None or int(found[1]) <= lines:
        return type(error)(head + tail)
    number = str(int(found[1]) - lines)
    shorter = len(found[1]) - len(number)
    place = f"\n\nLINE {number}: {found[2]}\n{found[3][shorter:]}"
    return type(error)(head + place + tail)


def wire_error(error: BaseException, sql: str) -> WireError:
    """Translate an error about a statement; sql is the text that the client sent."""
    if isinstance(error, WireError):
        return error
    if not isinstance(error, duckdb.Error):
        return WireError(SqlState.INTERNAL, f"internal error: {type(error).__name__}: {error}")
    message = str(error)
    position = 0
    found = _EXCERPT.search(message)
    if found is not None:
        position = _position(sql, int(found[1]), found[2].split("\n")[0], found[3])
        message = message[: found.start()] + message[found.end() :]
    hints = _HINTS.search(message)
    hint = ""
    if hints is not None:
        hint, message = hints[0].strip(), message[: hints.start()]
    return WireError(_state(error, message), message.strip(), hint=hint, position=position)


def _state(error: duckdb.Error, message: str) -> SqlState:
    if (
        isinstance(error, errors.QuackLLMError)
        and _LIMIT.search(message)
        and not isinstance(error, (errors.SettingError, errors.StatementCancelled))
    ):
        return SqlState.LIMIT_EXCEEDED
    if isinstance(error, _WORDED):
        for pattern, state in _BY_WORDS:
            if re.search(pattern, message):
                return state
    for kind, state in _BY_CLASS:
        if isinstance(error, kind):
            return state
    return SqlState.INTERNAL


def _position(sql: str, number: int, excerpt: str, carets: str) -> int:
    """Where in the text the caret of DuckDB's excerpt points, counted from 1; 0 if unclear.

    A long line is shown in part, with three dots where something was left out.
    """
    lines = sql.split("\n")
    if number > len(lines):
        return 0
    column = carets.index("^") - len(f"LINE {number}: ")
    shown = excerpt
    if shown.startswith("..."):
        shown, column = shown[3:], column - 3
    shown = shown.removesuffix("...")
    start = lines[number - 1].find(shown)
    if start < 0 or column < 0:
        return 0
    return sum(len(line) + 1 for line in lines[: number - 1]) + start + column + 1
