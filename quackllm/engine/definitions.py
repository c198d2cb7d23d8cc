"""Statements that store or describe an expression: what may call a model, and how it is stored.

A view or a macro is evaluated when a statement reads it, which is planned like any other.
A CHECK, a DEFAULT, a generated column or an index is evaluated by DuckDB on its own, row by
row, whenever rows are written, and is taken to have one value for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot.tokenizer_core import Token, TokenType

from quackllm.engine.statement import (
    CLOSING,
    OPENING,
    QUERY_WORDS,
    Statement,
    calls_in,
    inner_query,
)
from quackllm.engine.stored import StoredNames
from quackllm.errors import BindError
from quackllm.udfs.registry import Functions

STORED = frozenset({"VIEW", "MACRO", "FUNCTION"})
DESCRIBING = frozenset({"DESCRIBE", "DESC"})


def is_definition(statement: Statement) -> bool:
    """Whether a statement stores or describes its text, and asks nothing itself."""
    words = [token.text.upper() for token in statement.tokens[:5]]
    stores = words[:1] == ["CREATE"] and bool(STORED & set(words))
    return stores or statement.first_word in DESCRIBING | {"PREPARE"}


def defined_query(statement: Statement) -> tuple[int, int] | None:
    """Find the query that CREATE VIEW or a table macro stores, or that DESCRIBE is about.

    Returns its span in the text; None where there is none.
    """
    tokens = statement.tokens
    words = [token.text.upper() for token in tokens]
    if statement.first_word in DESCRIBING and set(words[1:2]) <= QUERY_WORDS:
        return tokens[1].start - statement.offset, len(statement.sql)
    if words[:1] != ["CREATE"]:
        return None
    at = next((i for i, token in enumerate(tokens) if token.token_type == TokenType.ALIAS), None)
    if at is None or at + 2 >= len(tokens):
        return None
    if "VIEW" not in words[:at]:
        if words[at + 1] != "TABLE":
            return None
        at += 1
    return tokens[at + 1].start - statement.offset, len(statement.sql)


def refuse_in_definition(statement: Statement, functions: Functions, names: StoredNames) -> None:
    """Raise `BindError` for a call that DuckDB would keep and evaluate on its own.

    names: of macros that call a model, which are refused as well.
    """
    words = [token.text.upper() for token in statement.tokens]
    if words[:1] not in (["CREATE"], ["ALTER"]) or not {"TABLE", "INDEX"} & set(words[1:5]):
        return
    if inner_query(statement) is not None:
        return
    starts = {found.start + statement.offset for found in calls_in(statement, functions)}
    for at, token in enumerate(statement.tokens[:-1]):
        is_call = statement.tokens[at + 1].token_type == TokenType.L_PAREN
        if token.start in starts or (is_call and at > 0 and token.text in names):
            place = _place(statement.tokens, at)
            if place is not None:
                raise BindError(
                    f"Binder Error: {token.text.upper()} cannot stand in {place}: the answer of a "
                    "model is not deterministic, and DuckDB would ask for it row by row. Store "
                    "the answers instead: CREATE TABLE ... AS SELECT, INSERT ... SELECT or UPDATE."
                )


def _place(tokens: Sequence[Token], at: int) -> str | None:
    """Where in a definition a token stands; None where DuckDB evaluates it at once."""
    words = [token.text.upper() for token in tokens]
    if "INDEX" in words[1:4]:
        return f"the index {_name(tokens, words.index('INDEX') + 1)}"
    for index in range(at - 1, 0, -1):
        if words[index] == "CHECK":
            return "a CHECK constraint"
        if words[index] == "DEFAULT":
            return f"the DEFAULT of column {_column(tokens, index)}"
        if words[index] == "AS" and words[index + 1] == "(":
            return f"the generated column {_column(tokens, index)}"
        if words[index] == "USING" and words[0] == "ALTER":
            return None
    return None


def _name(tokens: Sequence[Token], at: int) -> str:
    words = [token.text.upper() for token in tokens[at : at + 3]]
    return tokens[at + 3].text if words == ["IF", "NOT", "EXISTS"] else tokens[at].text


def _column(tokens: Sequence[Token], at: int) -> str:
    """The name that begins the definition in which a token stands."""
    depth = 0
    for index in range(at - 1, -1, -1):
        kind = tokens[index].token_type
        depth += (kind in CLOSING) - (kind in OPENING)
        begins = kind == TokenType.COMMA and depth == 0
        alters = index > 0 and tokens[index].text.upper() in ("COLUMN", "ADD", "ALTER")
        if begins or depth < 0 or alters:
            following = index + 1
            while tokens[following].text.upper() in ("COLUMN", "IF", "NOT", "EXISTS"):
                following += 1
            return tokens[following].text
    return tokens[0].text
