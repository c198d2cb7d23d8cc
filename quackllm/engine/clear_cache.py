"""CALL llm_clear_cache(...): forget answers, all of them or by function, model and age."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import duckdb
from sqlglot.tokenizer_core import TokenType

from quackllm.engine.cache import Selection
from quackllm.engine.engine import Engine
from quackllm.engine.statement import CLOSING, OPENING, Statement
from quackllm.errors import BindError

NAME = "llm_clear_cache"
CLEAR = re.compile(rf"\s*(?:CALL|PRAGMA)\s+{NAME}\b", re.IGNORECASE)
ARGUMENT = re.compile(r"\s*(\w+)\s*(?::=|=>|=)\s*(.+)", re.DOTALL)
ARGUMENTS = ("function", "model", "older_than")


def is_clear_cache(statement: Statement) -> bool:
    """Whether a statement is the command."""
    return bool(CLEAR.match(statement.without_comments))


def selection_of(statement: Statement, engine: Engine, evaluate: Callable[[str], Any]) -> Selection:
    """Read which answers are meant. Raises `BindError`.

    A function may be written by an alias, a model by the name that CREATE MODEL gave.
    """
    given: dict[str, Any] = {}
    for text in _arguments(statement):
        found = ARGUMENT.fullmatch(text)
        name = found[1].lower() if found else ""
        if found is None or name not in ARGUMENTS:
            close = get_close_matches(name, ARGUMENTS, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise BindError(
                f"Binder Error: {NAME}: unknown argument {text.strip()}{hint}; the arguments are "
                "function := '...', model := '...', older_than := INTERVAL '30 days'"
            )
        given[name] = _value(name, found[2], evaluate)
    if given.get("function") is not None:
        function = engine.functions.get(given["function"])
        given["function"] = function.name if function else given["function"].lower()
    if given.get("model") is not None:
        named = engine.models.get(given["model"].lower())
        given["model"] = (named and named.model) or given["model"]
    return Selection(**given)


def _value(name: str, text: str, evaluate: Callable[[str], Any]) -> Any:
    try:
        if name == "older_than":
            seconds = evaluate(f"epoch(CAST({text} AS INTERVAL))")
            return None if seconds is None else float(seconds)
        value = evaluate(text)
    except duckdb.Error as error:
        raise BindError(f"Binder Error: {NAME}: {name}: {error}") from None
    if value is not None and not isinstance(value, str):
        raise BindError(f"Binder Error: {NAME}: {name} must be a text, not {value}")
    return value


def _arguments(statement: Statement) -> Iterator[str]:
    """Yield the texts between the commas of the outermost parentheses."""
    depth, start = 0, 0
    for token in statement.tokens[2:]:
        at = token.start - statement.offset
        if depth == 0 and token.token_type not in OPENING:
            raise BindError(f"Parser Error: expected CALL {NAME}(...), not {token.text}")
        if token.token_type in OPENING:
            depth += 1
            if depth == 1:
                start = at + 1
        elif token.token_type in CLOSING:
            depth -= 1
        if depth == 0 or (depth == 1 and token.token_type == TokenType.COMMA):
            text = statement.sql[start:at]
            if text.strip():
                yield text
            start = at + 1
