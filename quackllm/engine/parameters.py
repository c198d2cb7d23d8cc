"""Parameters of a statement, all under names, so that each stage can take its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from sqlglot.tokenizer_core import Token, TokenType

from quackllm.engine.statement import Statement


def named_parameters(
    connection: duckdb.DuckDBPyConnection, statement: Statement, given: Any
) -> tuple[str, dict[str, Any]]:
    """Rewrite `?`, `?2` and `$1` to `$p1`, ...; return the text and the values by name.

    Raises DuckDB's own error for values that do not fit the parameters.
    """
    places = _places(statement)
    if places or given:
        _check(connection, [statement.sql[start:end] for start, end, _ in places], given)
    if isinstance(given, Mapping):
        named = {_name(str(key)): value for key, value in given.items()}
    else:
        named = {f"p{i}": value for i, value in enumerate(given or (), 1)}
    edits = [(start, end, f"${name}") for start, end, name in places]
    return _edited(statement.sql, edits), {name: named[name] for _, _, name in places}


def _places(statement: Statement) -> list[tuple[int, int, str]]:
    """Find the parameters: start, end (exclusive) and name of each."""
    places: list[tuple[int, int, str]] = []
    unnumbered = 0
    tokens = statement.tokens
    for index, token in enumerate(tokens):
        start, end = token.start - statement.offset, token.end + 1 - statement.offset
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        adjacent = following is not None and following.start == token.end + 1
        if token.token_type == TokenType.PLACEHOLDER and token.text == "?":
            if adjacent and following is not None and following.text.isdigit():
                places.append((start, _end(following, statement), _name(following.text)))
            else:
                unnumbered += 1
                places.append((start, end, f"p{unnumbered}"))
        elif token.token_type == TokenType.PARAMETER and adjacent and following is not None:
            places.append((start, _end(following, statement), _name(following.text)))
    return places


def _end(token: Token, statement: Statement) -> int:
    end: int = token.end + 1 - statement.offset
    return end


def _name(written: str) -> str:
    """DuckDB reads names of parameters in any case, and takes '1' for a number."""
    return f"p{written}" if written.isdigit() else written.lower()


def _check(connection: duckdb.DuckDBPyConnection, written: Sequence[str], given: Any) -> None:
    values = ", ".join(written) or "NULL"
    connection.execute(f"SELECT {values}", given).fetchall()


def _edited(sql: str, edits: list[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    at = 0
    for start, end, text in edits:
        parts.extend((sql[at:start], text))
        at = end
    return "".join([*parts, sql[at:]])
