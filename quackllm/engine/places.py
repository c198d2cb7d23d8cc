"""Where in the text that a person wrote something is wrong, and what DuckDB would not say of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import duckdb
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from quackllm.engine.joint import said_of_place
from quackllm.errors import BindError
from quackllm.optimizer.naive import FUNCTION
from quackllm.optimizer.sql import DIALECT
from quackllm.udfs.base import Function
from quackllm.udfs.registry import options_of

EXCERPT = "\n\nLINE "
"""What an error's excerpt of the statement begins with, DuckDB's and ours."""

UNKNOWN_COLUMN = re.compile(r'Referenced column "(?P<name>\w+)" not found in FROM clause!')
TABLES_AFTER = frozenset({"FROM", "JOIN", "CALL", "LATERAL", ","})

AROUND = 60
"""Characters of a long line that are shown on each side of a place in it."""


def placed(error: BindError, sql: str, start: int | None = None) -> BindError:
    """Return an error about a call with its place shown in the text that the person wrote.

    start: where a reading of the text has found the call. Without it, or where no such call
    begins there, the place is shown if the text has only one.
    """
    place = _place_of_call(error.call, sql, start)
    if place is None or EXCERPT in str(error):
        return error
    return BindError(_shown(str(error), sql, place), call=error.call)


def _place_of_call(name: str, sql: str, start: int | None) -> int | None:
    """Where in a text the call of a function begins; None where that is not certain."""
    if name.lower() not in sql.lower():
        return None
    try:
        tokens = DIALECT.tokenize(sql)
    except SqlglotError:
        return None
    starts = [
        token.start
        for token, after in pairwise(tokens)
        if after.token_type == TokenType.L_PAREN and token.text.lower() == name.lower()
    ]
    if start in starts:
        return start
    return starts[0] if len(starts) == 1 else None


@contextmanager
def shown_in(sql: str) -> Iterator[None]:
    """Raise errors as they are, but for those that show a text which the person did not write."""
    try:
        yield
    except duckdb.Error as error:
        said, _, excerpt = str(error).partition(EXCERPT)
        line = excerpt.partition("\n")[0].partition(": ")[2]
        if excerpt and f"{FUNCTION}(" in sql:  # that of a relation, made of what was written
            raise type(error)(said) from None
        if line.removeprefix("...").removesuffix("...") in sql:
            raise
        raise relocated(error, sql) from None


def relocated(error: duckdb.Error, sql: str, functions: Iterable[Function] = ()) -> duckdb.Error:
    """Return DuckDB's error with its position shown in the text that the person wrote.

    functions: those of which is said where they can stand.
    """
    said, line, excerpt = str(error).partition(EXCERPT)
    functions = tuple(functions)
    head = _said_of_option(said_of_place(said, sql, functions), sql, functions)
    of_naive_form = isinstance(error, duckdb.ParserException) or f" {FUNCTION} does not" in said
    used = _used_as_table(sql, functions) if of_naive_form else None
    if used is not None:
        return placed(used, sql)
    if not line and head == said:
        return error
    wrong = _pointed_at(excerpt.split("\n"))
    found = re.search(rf"(?<!\w){re.escape(wrong)}(?!\w)", sql, re.IGNORECASE) if wrong else None
    if found is not None:
        head = _shown(head, sql, found.start())
    kind = type(error) if type(error) is not duckdb.Error else BindError
    return kind(head)


def _said_of_option(message: str, sql: str, functions: Iterable[Function]) -> str:
    """Say how options are written, where DuckDB reads one as a column: f(x, model = 'fast')."""
    found = UNKNOWN_COLUMN.search(message)
    name = found["name"] if found is not None else ""
    options = {option.name for function in functions for option in options_of(function)}
    if name not in options or not re.search(rf"[(,]\s*{name}\s*=", sql):
        return message
    return f"{message}\nOptions of LLM functions are written {name} := ..."


def _used_as_table(sql: str, functions: Iterable[Function]) -> BindError | None:
    """Return the error for a function that stands where a table does, if one does.

    DuckDB can read the statement, and not the form in which it evaluates such a function.
    """
    names = {name.lower() for each in functions for name in (each.name, *each.aliases)}
    tokens = DIALECT.tokenize(sql)
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        is_call = after.token_type == TokenType.L_PAREN and token.text.lower() in names
        if is_call and before.text.upper() in TABLES_AFTER:
            name = token.text.upper()
            return BindError(
                f"Binder Error: {name} gives one value for each row and was used as a table: "
                f"SELECT {name}(...) FROM ...",
                call=token.text,
            )
    return None


def _shown(said: str, sql: str, place: int) -> str:
    """Add the line of a text, and a caret below the place in it."""
    number = sql.count("\n", 0, place) + 1
    start = sql.rfind("\n", 0, place) + 1
    end = sql.find("\n", place)
    line, column = _excerpt(sql[start : end if end >= 0 else len(sql)], place - start)
    label = f"LINE {number}: "
    return f"{said}\n\n{label}{line}\n{' ' * (len(label) + column)}^"


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """Leave out of a long line what is far from a column, as DuckDB does; the column moves."""
    first = max(0, column - AROUND)
    last = column + AROUND
    shown = ("..." if first else "") + line[first:last] + ("..." if last < len(line) else "")
    return shown, column - first + (3 if first else 0)


def _pointed_at(lines: list[str]) -> str:
    """The word above the caret of DuckDB's excerpt."""
    if len(lines) < 2 or "^" not in lines[1]:
        return ""
    shown, start = "LINE " + lines[0], lines[1].index("^")
    found = re.match(r"[\w.\"]+", shown[start:])
    return found[0] if found else ""
