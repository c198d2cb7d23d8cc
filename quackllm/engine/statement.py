"""What a text holds, found by its tokens: statements, calls, kinds. Nothing is changed here.

Tokens are enough to find a call anywhere, in statements of any kind, also in those
that sqlglot cannot parse; comments, strings and quoted names are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from quackllm.errors import BindError
from quackllm.optimizer.long_lists import tokens_of
from quackllm.optimizer.sql import DIALECT
from quackllm.udfs.base import Function
from quackllm.udfs.registry import Functions

OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
NAMES_BEFORE = frozenset(
    {"INTO", "TABLE", "VIEW", "MACRO", "FUNCTION", "WITH", "RECURSIVE", "AS", "UPDATE", "TYPE"}
    | {"EXISTS", "COPY", "REFERENCES", "EXECUTE"}
)
"""Words after which a name and a parenthesis are not a call."""

CALLS_AFTER = frozenset({"BY", "RETURN", "CHECK", "TOP", "SAMPLE", "PRECEDING", "LAST"})
"""Words that sqlglot takes for names; after any other name there is no call."""

CHANGING = frozenset({"UPDATE", "DELETE", "INSERT", "MERGE"})
QUERY_WORDS = frozenset({"SELECT", "WITH", "FROM", "VALUES", "("})


@dataclass(frozen=True)
class Statement:
    """One statement of a script: its text, its tokens, and where it stands."""

    sql: str
    tokens: tuple[Token, ...]
    offset: int

    @property
    def first_word(self) -> str:
        """First token in upper case, '' for an empty statement."""
        return self.tokens[0].text.upper() if self.tokens else ""

    def rewritten(self, sql: str) -> Statement:
        """Return the statement of a text that was made of this one's, read anew if it differs.

        Reading a megabyte into tokens takes seconds.
        """
        return self if sql == self.sql else split(sql)[0]

    def between(self, start: int, end: int) -> Statement:
        """Return the part of the text that begins and ends at two offsets, by whole tokens."""
        first, last = self.offset + start, self.offset + end
        tokens = tuple(token for token in self.tokens if first <= token.start < last)
        if not tokens:
            return Statement("", (), first)
        begin, stop = tokens[0].start, tokens[-1].end + 1
        return Statement(self.sql[begin - self.offset : stop - self.offset], tokens, begin)

    @property
    def without_comments(self) -> str:
        """The statement with one space for whatever stands between two tokens."""
        parts: list[str] = []
        end = self.offset
        for token in self.tokens:
            if token.start > end:
                parts.append(" ")
            parts.append(self.sql[token.start - self.offset : token.end + 1 - self.offset])
            end = token.end + 1
        return "".join(parts)


@dataclass(frozen=True)
class CallText:
    """A call in a text. Offsets are of the statement's text; `end` is exclusive.

    end: of an aggregate, behind its FILTER and OVER.
    arguments: spans of the arguments, named ones included.
    """

    function: Function
    start: int
    end: int
    arguments: tuple[tuple[int, int], ...]


OURS = re.compile(r"llm|\bai_|\bmodel\b|\bsecret\b", re.IGNORECASE)
"""A text in which this is not found is not ours, and is not looked at further."""


def holds_calls(sql: str, functions: Functions) -> bool:
    """Whether a text calls one of the functions."""
    return bool(OURS.search(sql)) and any(calls_in(part, functions) for part in split(sql))


def split(sql: str) -> list[Statement]:
    """Split a script at its semicolons. Raises `BindError` where it cannot be read."""
    try:
        tokens = tokens_of(sql)
    except SqlglotError as error:
        raise BindError(f"Parser Error: {error}") from None
    statements = []
    current: list[Token] = []
    for token in [*tokens, None]:
        if token is not None and token.token_type != TokenType.SEMICOLON:
            current.append(token)
        elif current:
            start, end = current[0].start, current[-1].end + 1
            statements.append(Statement(sql[start:end], tuple(current), start))
            current = []
    return statements


def calls_in(statement: Statement, functions: Functions) -> list[CallText]:
    """Find the outermost calls of a statement, in order."""
    calls: list[CallText] = []
    tokens = statement.tokens
    at = begin = _begin(tokens)
    names_before = NAMES_BEFORE - {"AS"} if begin else NAMES_BEFORE  # overloads of a macro
    while at < len(tokens):
        before = tokens[at - 1] if at > begin else None
        function = _function_at(tokens, at, before, functions, names_before)
        end = closing(tokens, at + 1) if function is not None else at
        if function is None or _names_columns(tokens, end):
            at += 1
            continue
        first = tokens[at].start - statement.offset
        spans = tuple(arguments(tokens, at + 1, end, statement.offset))
        if function.over_set or function.joint:
            end = _end_of_aggregate(tokens, end)
        last = tokens[end].end + 1 - statement.offset
        calls.append(CallText(function, first, last, spans))
        at = end + 1
    return calls


def _begin(tokens: Sequence[Token]) -> int:
    """Where calls may begin: in CREATE MACRO and CREATE INDEX behind the names."""
    words = [token.text.upper() for token in tokens]
    if words[:1] != ["CREATE"]:
        return 0
    if {"MACRO", "FUNCTION"} & set(words[1:4]):
        start = _first(words, depths(tokens), {"AS"}, 0)
        return 0 if start is None else start + 1
    if "INDEX" in words[1:4]:
        return words.index("(") + 1 if "(" in words else len(tokens)
    return 0


def _function_at(
    tokens: Sequence[Token],
    at: int,
    before: Token | None,
    functions: Functions,
    names_before: Collection[str],
) -> Function | None:
    token = tokens[at]
    if at + 1 >= len(tokens) or tokens[at + 1].token_type != TokenType.L_PAREN:
        return None
    if token.token_type == TokenType.STRING:
        return None
    if before is not None:
        word = before.text.upper()
        is_name = before.token_type in (TokenType.VAR, TokenType.IDENTIFIER)
        if before.token_type == TokenType.DOT or word in names_before:
            return None
        if is_name and word not in CALLS_AFTER:
            return None
    return functions.get(token.text)


def _end_of_aggregate(tokens: Sequence[Token], end: int) -> int:
    """Return the end of an aggregate's FILTER and OVER, which may stand behind its arguments."""
    words = [token.text.upper() for token in tokens[end + 1 : end + 3]]
    if words == ["FILTER", "("] or words == ["OVER", "("]:
        return _end_of_aggregate(tokens, closing(tokens, end + 2))
    return end + 2 if words[:1] == ["OVER"] and len(words) == 2 else end


def _names_columns(tokens: Sequence[Token], closing: int) -> bool:
    """Whether AS and a query follow: a name in WITH and the names of its columns."""
    words = [token.text.upper() for token in tokens[closing + 1 : closing + 3]]
    return words in (["AS", "("], ["AS", "MATERIALIZED"], ["AS", "NOT"])


def closing(tokens: Sequence[Token], at: int) -> int:
    """Return where the parenthesis that opens at a token is closed. Raises `BindError`."""
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index].token_type in OPENING:
            depth += 1
        elif tokens[index].token_type in CLOSING:
            depth -= 1
            if depth == 0:
                return index
    raise BindError("Parser Error: a parenthesis is not closed")


def arguments(
    tokens: Sequence[Token], opening: int, closing: int, offset: int
) -> list[tuple[int, int]]:
    """List the spans between the commas of two parentheses; texts begin at `offset`."""
    spans = []
    depth, start = 0, opening + 1
    for index in range(opening, closing + 1):
        kind = tokens[index].token_type
        if kind in OPENING:
            depth += 1
        elif kind in CLOSING:
            depth -= 1
        if (kind == TokenType.COMMA and depth == 1) or (index == closing):
            if index > start:
                spans.append((tokens[start].start - offset, tokens[index - 1].end + 1 - offset))
            start = index + 1
    return spans


def bare_lambdas(sql: str) -> str:
    """Take the parentheses from around lambdas: DuckDB writes them, sqlglot reads none."""
    tokens = DIALECT.tokenize(sql)
    opening = [
        at
        for at, token in enumerate(tokens[:-1])
        if at
        and token.token_type == TokenType.L_PAREN
        and tokens[at - 1].token_type in (TokenType.COMMA, TokenType.L_PAREN)  # no call's own
        and tokens[at + 1].text.upper() == "LAMBDA"
    ]
    dropped = {tokens[at].start for at in opening}
    dropped.update(tokens[closing(tokens, at)].start for at in opening)
    return "".join(letter for at, letter in enumerate(sql) if at not in dropped)


def is_query(statement: Statement) -> bool:
    """Whether a statement is a query: it begins like one, and WITH leads to no change."""
    return statement.first_word in QUERY_WORDS and not is_change(statement)


def is_change(statement: Statement) -> bool:
    """Whether a statement changes rows: UPDATE and the like, which may stand behind WITH."""
    if statement.first_word != "WITH":
        return statement.first_word in CHANGING
    words = [token.text.upper() for token in statement.tokens]
    levels = depths(statement.tokens)
    return any(
        word in CHANGING and level == 0 and before == ")"
        for word, level, before in zip(words[1:], levels[1:], words, strict=False)
    )


EXPLAIN = re.compile(
    r"\s*EXPLAIN\b(?P<analyze>\s+ANALYZE\b)?(?:\s*\((?P<options>[^()]*)\))?(?P<verbose>\s+VERBOSE\b)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Explain:
    """EXPLAIN around a statement; `length` characters belong to EXPLAIN itself."""

    analyze: bool
    json: bool
    verbose: bool
    length: int


def explain_of(statement: Statement) -> Explain | None:
    """Read the EXPLAIN that a statement begins with, if it does."""
    found = EXPLAIN.match(statement.sql)
    if found is None:
        return None
    options = (found["options"] or "").lower()
    analyze = bool(found["analyze"]) or "analyze" in options
    verbose = bool(found["verbose"]) or "verbose" in options
    return Explain(analyze, "json" in options, verbose, found.end())


def inner_query(statement: Statement) -> tuple[int, int] | None:
    """Find the query whose rows another statement takes, as a span of the text.

    Of CREATE TABLE AS, INSERT, COPY (...) TO, MERGE ... USING (...), PIVOT (...),
    UNPIVOT (...) and SUMMARIZE. None for others and for an INSERT with VALUES.
    """
    tokens = statement.tokens
    words = [token.text.upper() for token in tokens]
    levels = depths(tokens)
    if words[0] == "CREATE" and "TABLE" in words[1:5]:
        start = _first(words, levels, {"AS"}, 0)
        span = None if start is None else (start + 1, len(tokens))
    elif words[0] == "INSERT":
        start = _first(words, levels, {"SELECT", "WITH", "FROM"}, 0)
        span = None if start is None else (start, _insert_end(words, levels, start))
    elif words[:2] in (["COPY", "("], ["PIVOT", "("], ["UNPIVOT", "("]):
        span = (2, closing(tokens, 1))
    elif words[0] == "SUMMARIZE":
        span = (1, len(tokens))
    elif words[0] == "MERGE":
        start = _first(words, levels, {"USING"}, 0)
        opens = start is not None and words[start + 1 : start + 2] == ["("]
        span = (start + 2, closing(tokens, start + 1)) if start is not None and opens else None
    else:
        span = None
    if span is None or span[0] >= span[1] or words[span[0]] not in QUERY_WORDS:
        return None
    return (
        tokens[span[0]].start - statement.offset,
        tokens[span[1] - 1].end + 1 - statement.offset,
    )


def returning(statement: Statement) -> int | None:
    """Where in the text of a change the items of RETURNING begin, None if it has none."""
    words = [token.text.upper() for token in statement.tokens]
    at = _first(words, depths(statement.tokens), {"RETURNING"}, 1)
    if at is None or at + 1 >= len(words) or words[0] not in CHANGING | {"WITH"}:
        return None
    return statement.tokens[at + 1].start - statement.offset


def _insert_end(words: Sequence[str], depths: Sequence[int], start: int) -> int:
    for index in range(start, len(words)):
        on_conflict = words[index : index + 2] == ["ON", "CONFLICT"]
        if depths[index] == 0 and (on_conflict or words[index] == "RETURNING"):
            return index
    return len(words)


def depths(tokens: Sequence[Token]) -> list[int]:
    """Count the parentheses that are open around each token."""
    depth, depths = 0, []
    for token in tokens:
        depth -= token.token_type in CLOSING
        depths.append(depth)
        depth += token.token_type in OPENING
    return depths


def _first(words: Sequence[str], depths: Sequence[int], wanted: set[str], start: int) -> int | None:
    for index in range(start, len(words)):
        if depths[index] == 0 and words[index] in wanted:
            return index
    return None
