"""What kind of statement a text is, as far as the server has to treat kinds apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum, auto

from quackllm.engine import commands
from quackllm.engine.statement import CLOSING, OPENING, Statement, split
from quackllm.errors import BindError


class Kind(Enum):
    """How a statement is carried out."""

    DUCKDB = auto()
    """By DuckDB or the engine; the rest is ours."""
    OURS = auto()
    """SET llm_..., CREATE MODEL: by the engine, no rows."""
    EXPLAIN = auto()
    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    SAVEPOINT = auto()
    RELEASE = auto()
    ROLLBACK_TO = auto()
    SET = auto()
    RESET = auto()
    SHOW = auto()
    DISCARD = auto()
    DEALLOCATE = auto()
    IGNORED = auto()
    """LISTEN, UNLISTEN, NOTIFY, LOCK: nothing to do here."""
    DECLARE = auto()
    FETCH = auto()
    MOVE = auto()
    CLOSE = auto()
    COPY = auto()


TRANSACTION_CONTROL = frozenset(
    {Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO}
)

_BY_FIRST_WORD = {
    "BEGIN": Kind.BEGIN,
    "START": Kind.BEGIN,
    "COMMIT": Kind.COMMIT,
    "END": Kind.COMMIT,
    "ROLLBACK": Kind.ROLLBACK,
    "ABORT": Kind.ROLLBACK,
    "SAVEPOINT": Kind.SAVEPOINT,
    "RELEASE": Kind.RELEASE,
    "SET": Kind.SET,
    "RESET": Kind.RESET,
    "SHOW": Kind.SHOW,
    "DISCARD": Kind.DISCARD,
    "DEALLOCATE": Kind.DEALLOCATE,
    "LISTEN": Kind.IGNORED,
    "UNLISTEN": Kind.IGNORED,
    "NOTIFY": Kind.IGNORED,
    "LOCK": Kind.IGNORED,
    "DECLARE": Kind.DECLARE,
    "FETCH": Kind.FETCH,
    "MOVE": Kind.MOVE,
    "CLOSE": Kind.CLOSE,
    "EXPLAIN": Kind.EXPLAIN,
    "COPY": Kind.COPY,
}


_PARAMETER = re.compile(r"(?<![\w$])\$(?=\d)")


@dataclass(frozen=True)
class Parsed:
    """A statement with its kind and, in upper case, its words as the tokenizer has them."""

    statement: Statement
    kind: Kind
    words: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The statement's text, without the semicolon."""
        return self.statement.sql

    @property
    def is_copy_stream(self) -> bool:
        """Whether it is a COPY from or to the client."""
        return self.kind is Kind.COPY and bool({"STDIN", "STDOUT"} & set(self.words))

    @property
    def returns_rows(self) -> bool:
        """Whether it ends in RETURNING, outside of parentheses."""
        return returning(self.statement) is not None


def parse(sql: str) -> list[Parsed]:
    """Take a text apart. What cannot be read is one statement: DuckDB says what is wrong."""
    try:
        # To the tokenizer `$1,$2` begins a text between dollars; `?1` is as long as `$1`.
        statements = split(_PARAMETER.sub("?", sql))
    except BindError:
        return [Parsed(Statement(sql.strip(), (), 0), Kind.DUCKDB, ("",))]
    return [_parsed(_as_written(statement, sql)) for statement in statements]


def _as_written(statement: Statement, sql: str) -> Statement:
    start = statement.offset
    return replace(statement, sql=sql[start : start + len(statement.sql)])


def _parsed(statement: Statement) -> Parsed:
    words = tuple(token.text.upper() for token in statement.tokens)
    return Parsed(statement, _kind(statement, words), words)


def _kind(statement: Statement, words: tuple[str, ...]) -> Kind:
    if commands.is_command(statement):
        return Kind.OURS
    first = words[0].partition(" ")[0]  # the tokenizer joins some words
    kind = _BY_FIRST_WORD.get(first, Kind.DUCKDB)
    if kind is Kind.ROLLBACK and "TO" in words[1:4]:
        return Kind.ROLLBACK_TO
    return kind


def returning(statement: Statement) -> int | None:
    """Return the offset behind RETURNING in a statement's text, None without one."""
    if statement.first_word not in ("INSERT", "UPDATE", "DELETE", "MERGE", "WITH"):
        return None
    depth = 0
    for token in statement.tokens:
        depth += token.token_type in OPENING
        depth -= token.token_type in CLOSING
        if depth == 0 and token.text.upper() == "RETURNING":
            return int(token.end) + 1 - statement.offset
    return None


def command_tag(parsed: Parsed, rows: int | None) -> str:
    """Return what CommandComplete says; rows is the number of rows it was about, if any."""
    words = [word for text in parsed.words[:8] for word in text.split()]
    first = words[0] if words else "SELECT"
    if first == "WITH":
        found = [word for word in parsed.words if word in ("INSERT", "UPDATE", "DELETE", "SELECT")]
        first = next((word for word in found if word != "SELECT"), "SELECT")
    if first == "INSERT":
        return f"INSERT 0 {rows or 0}"
    if first in ("UPDATE", "DELETE", "MERGE", "COPY", "FETCH", "MOVE"):
        return f"{first} {rows or 0}"
    if first in ("CREATE", "DROP", "ALTER", "COMMENT"):
        skipped = ("OR", "REPLACE", "TEMP", "TEMPORARY", "UNIQUE", "PERSISTENT", "SECRET")
        kind = next((word for word in words[1:] if word not in skipped), "")
        if first == "CREATE" and kind == "TABLE" and rows is not None:
            return f"SELECT {rows}"
        return f"{first} {kind}".strip()
    if rows is not None:
        return f"SELECT {rows}"
    return first
