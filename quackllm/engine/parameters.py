"""Parameters of a statement, all under names, so that each stage can take its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from sqlglot.tokens import TokenType

from quackllm.engine.statement import Statement


def named_parameters(statement: Statement, given: Any) -> tuple[str, dict[str, Any]]:
    """Rewrite `?` and `$1` to `$p1`, ...; return the text and the values by name.

    Raises DuckDB's error for a number of values that does not fit.
    """
    edits: list[tuple[int, int, str]] = []
    names: list[str] = []
    tokens = statement.tokens
    for index, token in enumerate(tokens):
        start = token.start - statement.offset
        if token.token_type == TokenType.PLACEHOLDER and token.text == "?":
            names.append(f"p{len(names) + 1}")
            edits.append((start, start + 1, f"${names[-1]}"))
        elif token.token_type == TokenType.PARAMETER and index + 1 < len(tokens):
            following = tokens[index + 1]
            end = following.end + 1 - statement.offset
            name = f"p{following.text}" if following.text.isdigit() else following.text
            if name not in names:
                names.append(name)
            edits.append((start, end, f"${name}"))
    if not names:
        if given:
            _refuse(f"Values were not provided for any parameter, but {len(given)} were given")
        return statement.sql, {}
    return _edited(statement.sql, edits), _values(names, given)


def _values(names: Sequence[str], given: Any) -> dict[str, Any]:
    if given is None:
        _refuse(
            f"Values were not provided for the following prepared statement parameters: {_list(names)}"
        )
    if isinstance(given, Mapping):
        values = {str(name): value for name, value in given.items()}
        values.update({f"p{name}": value for name, value in values.items() if name.isdigit()})
    else:
        values = {f"p{i}": value for i, value in enumerate(given, 1)}
        if len(values) != len(names):
            _refuse(f"Prepared statement needs {len(names)} parameters, {len(values)} given")
    missing = [name for name in names if name not in values]
    if missing:
        _refuse(
            f"Values were not provided for the following prepared statement parameters: {_list(missing)}"
        )
    return {name: values[name] for name in names}


def _list(names: Sequence[str]) -> str:
    return ", ".join(name.removeprefix("p") if name[1:].isdigit() else name for name in names)


def _refuse(message: str) -> None:
    raise duckdb.InvalidInputException(f"Invalid Input Error: {message}")


def _edited(sql: str, edits: list[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, text in edits:
        parts.extend((sql[at:start], text))
        at = end
    return "".join([*parts, sql[at:]])
