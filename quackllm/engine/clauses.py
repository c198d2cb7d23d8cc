"""The clauses of a statement that is no query, found by its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from sqlglot.tokenizer_core import TokenType

from quackllm.engine.statement import Statement, arguments, closing, depths

QUOTED = (TokenType.IDENTIFIER, TokenType.STRING)
"""Tokens that are no word of SQL, whatever they say."""


@dataclass(frozen=True)
class Target:
    """The table that a statement changes.

    written: with its alias. name: without. reference: what its columns are qualified by.
    """

    written: str
    name: str
    reference: str


class Clauses:
    """The words of a statement, and which of them begin a clause.

    words: in upper case, '' for what is quoted, and for names behind a dot or AS, which may
        be any word. levels: parentheses and CASEs that are open around each.
    """

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.tokens = statement.tokens
        self.end = len(self.tokens)
        self.words = _words(statement)
        self.levels = _levels(statement, self.words)

    def find(self, wanted: tuple[str, ...], start: int, stop: int | None = None) -> int | None:
        """Where one of the words begins a clause; FROM of IS DISTINCT FROM does not."""
        for at in range(start, self.end if stop is None else stop):
            begins = self.words[at] in wanted and self.levels[at] == 0
            if begins and self.words[at - 1] != "DISTINCT":
                return at
        return None

    def commas(self, start: int, stop: int) -> list[int]:
        """Where the commas between the items of a clause are."""
        return [
            at
            for at in range(start, stop)
            if self.levels[at] == 0 and self.tokens[at].token_type == TokenType.COMMA
        ]

    def text(self, start: int, stop: int) -> str:
        """The statement's text from one token up to another."""
        if start >= stop:
            return ""
        begin, end = self.span(start, stop)
        return self.statement.sql[begin:end]

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Where in the statement's text some tokens are."""
        offset = self.statement.offset
        return self.tokens[start].start - offset, self.tokens[stop - 1].end + 1 - offset

    def whens(self) -> list[tuple[int, int]]:
        """Where the actions of a MERGE begin and end: at WHEN [NOT] MATCHED, and RETURNING."""
        starts: list[int] = []
        at = self.find(("WHEN",), 0)
        while at is not None:
            if self.words[at + 1 : at + 2] in (["MATCHED"], ["NOT"]):
                starts.append(at)
            at = self.find(("WHEN",), at + 1)
        end = self.find(("RETURNING",), starts[-1]) if starts else None
        return list(pairwise([*starts, end or self.end]))

    def items(self, opening: int) -> list[str]:
        """The texts between the commas of two parentheses."""
        end = closing(self.tokens, opening)
        spans = arguments(self.tokens, opening, end, self.statement.offset)
        return [self.statement.sql[first:last] for first, last in spans]

    def before(self, at: int) -> Statement:
        """Return the statement up to a token."""
        _, end = self.span(at - 1, at)
        return Statement(self.statement.sql[:end], self.tokens[:at], self.statement.offset)

    def target(self, start: int, stop: int) -> Target | None:
        """Read `schema.table AS alias`; None for anything else."""
        at = self.name_end(start)
        rest = [i for i in range(at + 1, stop) if self.words[i] != "AS"]
        if at >= stop or len(rest) > 1:
            return None
        named = rest[0] if rest else at
        return Target(self.text(start, stop), self.text(start, at + 1), self.text(named, named + 1))

    def name_end(self, at: int) -> int:
        """Where a name ends, which may be that of a schema and a table."""
        while self.tokens[at + 1 : at + 2] and self.tokens[at + 1].token_type == TokenType.DOT:
            at += 2
        return at


def _words(statement: Statement) -> list[str]:
    words: list[str] = []
    for at, token in enumerate(statement.tokens):
        before = statement.tokens[at - 1] if at else None
        is_name = before is not None and (
            before.token_type == TokenType.DOT
            or (before.token_type not in QUOTED and before.text.upper() == "AS")
        )
        quoted = token.token_type in QUOTED
        words.append("" if is_name or quoted else token.text.upper())
    return words


def _levels(statement: Statement, words: list[str]) -> list[int]:
    cases, levels = 0, []
    for word, depth in zip(words, depths(statement.tokens), strict=True):
        levels.append(depth + cases)
        cases += (word == "CASE") - (word == "END")
    return levels
