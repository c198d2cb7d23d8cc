"""The actions of a MERGE, their calls asked only where their condition may hold.

DuckDB computes the values of an action for all rows that are matched, or not, and looks at the
conditions afterwards: WHEN MATCHED AND s.i < 10 THEN UPDATE SET a = LLM('...', s.b) would ask
about every matched row. What of the condition is DuckDB's own is put around the value:

    SET a = CASE WHEN TRY(s.i < 10) THEN LLM('...', s.b) END

A row for which that is not TRUE does not take the action, so nobody reads its value. A part
that fails for a row that the naive plan never shows it is NULL here; conditions with calls stay
out of it, since a call that fails once may have an answer the next time it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from sqlglot.tokenizer_core import Token, TokenType

from quackllm.engine.statement import Statement, arguments, calls_in, closing, depths
from quackllm.udfs.registry import Functions

QUOTED = (TokenType.IDENTIFIER, TokenType.STRING)
"""Tokens that are no word of SQL, whatever they say."""

Free = Callable[[str], str | None]
"""The conjuncts of a condition that call no model and can be evaluated twice, if there are any."""


def with_guarded_actions(statement: Statement, functions: Functions, free: Free) -> str:
    """Write a MERGE with the conditions of its actions around the values that call a model."""
    parts: list[str] = []
    at = 0
    for action in _actions(statement):
        spans = [span for span in action.values if calls_in(statement.between(*span), functions)]
        guard = free(action.condition) if spans else None
        for start, end in spans if guard is not None else ():
            value = statement.sql[start:end]
            holds = f"TRY(CAST(({guard}) AS BOOLEAN))"
            parts.extend((statement.sql[at:start], f"CASE WHEN {holds} THEN {value} END"))
            at = end
    return "".join([*parts, statement.sql[at:]])


@dataclass(frozen=True)
class _Action:
    """The text of a condition, and where in the statement's text the values of its action are."""

    condition: str
    values: tuple[tuple[int, int], ...]


def _actions(statement: Statement) -> Iterator[_Action]:
    """Yield the actions that have a condition and set values."""
    tokens = statement.tokens
    words = ["" if token.token_type in QUOTED else token.text.upper() for token in tokens]
    levels = _levels(tokens, words)
    top = [at for at, level in enumerate(levels) if level == 0]
    starts = [at for at in top if words[at] == "WHEN" and words[at + 1] in ("MATCHED", "NOT")]
    end = next((at for at in top if words[at] == "RETURNING"), len(tokens))
    for start, stop in pairwise([*starts, end]):
        inside = [at for at in top if start < at < stop]
        and_ = next((at for at in inside if words[at] == "AND"), stop)
        then = next((at for at in inside if words[at] == "THEN"), stop)
        if and_ < then < stop:
            values = tuple(_values(statement, words, levels, then + 1, stop))
            yield _Action(_text(statement, and_ + 1, then), values)


def _levels(tokens: tuple[Token, ...], words: list[str]) -> list[int]:
    """Count the parentheses and the CASEs that are open around each token."""
    cases, levels = 0, []
    for word, depth in zip(words, depths(tokens), strict=True):
        levels.append(depth + cases)
        cases += (word == "CASE") - (word == "END")
    return levels


def _values(
    statement: Statement, words: list[str], levels: list[int], start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """Yield the spans of what UPDATE SET assigns to single columns, and INSERT VALUES inserts."""
    tokens, offset = statement.tokens, statement.offset
    if words[start : start + 2] == ["UPDATE", "SET"]:
        commas = [
            at
            for at in range(start, stop)
            if levels[at] == 0 and tokens[at].token_type == TokenType.COMMA
        ]
        for before, end in pairwise([start + 1, *commas, stop]):
            if words[before + 2] == "=" and end > before + 3:
                yield tokens[before + 3].start - offset, tokens[end - 1].end + 1 - offset
    elif words[start] == "INSERT":
        inside = range(start, stop)
        rows = next((at for at in inside if levels[at] == 0 and words[at] == "VALUES"), stop)
        if words[rows + 1 : rows + 2] == ["("]:
            yield from arguments(tokens, rows + 1, closing(tokens, rows + 1), offset)


def _text(statement: Statement, start: int, stop: int) -> str:
    first, last = statement.tokens[start], statement.tokens[stop - 1]
    return statement.sql[first.start - statement.offset : last.end + 1 - statement.offset]
