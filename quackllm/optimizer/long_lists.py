"""Long lists of literals, an IN (...) or the rows of VALUES that a tool wrote, as one name.

sqlglot makes a token and a node of each literal, in Python, and rules copy trees often. Such a
list says nothing to the planner, and DuckDB reads it as it was written: a megabyte of them is
planned in the time that DuckDB takes to read it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from quackllm.optimizer.sql import DIALECT, find_all, parse, raw, text

LONG_LIST = 100
"""Literals in an IN, or rows of VALUES, above which they are one piece of text to the planner."""

PLACE = "__llm_list_"
"""Begins the names that stand for lists while sqlglot reads the statement."""

_LITERAL = r"(?:-?\d++(?:\.\d*+)?+(?:[eE][+-]?\d++)?+|'(?:[^']|'')*+')"
_LONG = re.compile(rf"(?<=\()\s*+(?:{_LITERAL}\s*+,\s*+){{{LONG_LIST},}}+{_LITERAL}(?=\s*\))")
_OF_IN = re.compile(r"\bIN\s*\($", re.IGNORECASE)

_CELL = rf"(?:(?:(?:DATE|TIME|TIMESTAMP)\s*+)?+{_LITERAL}|NULL\b|TRUE\b|FALSE\b)"
_CELLS = rf"\s*+{_CELL}\s*+(?:,\s*+{_CELL}\s*+)*+"
_ROWS = re.compile(
    # Begun at VALUES and possessive: what is no literal in the last row is found in one reading,
    # not in one from each row. All rows or none, since DuckDB's parser wants rows of one length.
    rf"\bVALUES\s*+\((?P<rows>(?:{_CELLS}\)\s*+,\s*+\(){{{LONG_LIST},}}+{_CELLS})\)(?!\s*+,)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Folded:
    """A text with names in the place of its long lists.

    lists: their texts, by name. starts: where the names stand in `sql`, in order.
    """

    sql: str
    lists: dict[str, str]
    starts: tuple[int, ...]


def folded(sql: str) -> Folded:
    """Put a name in the place of whatever looks like a long list of an IN or VALUES.

    Of VALUES it is what stands between the first parenthesis and the last: one row of one
    column, the name. It may stand in a text or a comment, where the name is then no name.
    """
    parts: list[str] = []
    lists: dict[str, str] = {}
    starts: list[int] = []
    at = length = 0
    for start, end in sorted(_spans(sql)) if PLACE not in sql else ():
        name = f"{PLACE}{len(lists)}"
        lists[name] = sql[start:end]
        parts.extend((sql[at:start], name))
        starts.append(length + start - at)
        length = starts[-1] + len(name)
        at = end
    return Folded("".join([*parts, sql[at:]]), lists, tuple(starts))


def _spans(sql: str) -> Iterator[tuple[int, int]]:
    """Yield where long lists stand: inside their parentheses, none in another."""
    for found in _LONG.finditer(sql):
        if _OF_IN.search(sql, max(0, found.start() - 20), found.start()) is not None:
            yield found.span()
    for found in _ROWS.finditer(sql):
        yield found.span("rows")


def tokens_of(sql: str) -> list[Token]:
    """Cut a text into tokens, a long list being one; raises `SqlglotError`."""
    short = folded(sql)
    tokens = DIALECT.tokenize(short.sql)
    if not short.lists:
        return tokens
    names = {token.text for token in tokens if token.token_type == TokenType.VAR}
    if not names.issuperset(short.lists):
        return DIALECT.tokenize(sql)
    longer = [len(written) - len(name) for name, written in short.lists.items()]
    added = [0, *accumulate(longer)]
    for token in tokens:
        token.start += added[bisect_right(short.starts, token.start - 1)]
        token.end += added[bisect_right(short.starts, token.end)]
    return tokens


def parse_folded(sql: str) -> tuple[exp.Expr, Folded]:
    """Parse one statement, its long lists by name; return the text that was read too.

    `unfold` puts the lists back. Raises `SqlglotError`.
    """
    short = folded(sql)
    root = parse(short.sql)
    if len(_places(root, short)) != len(short.lists):  # in a text or a comment
        return parse(sql), Folded(sql, {}, ())
    return root, short


def unfold(root: exp.Expr, short: Folded) -> None:
    """Put the lists in the place of their names, in place, each as one leaf."""
    for node in _places(root, short):
        row = node.parent
        if isinstance(row, exp.Tuple) and isinstance(row.parent, exp.Values):
            row.replace(raw(f"({short.lists[node.name]})"))
        else:
            node.replace(raw(short.lists[node.name]))


def _places(root: exp.Expr, short: Folded) -> list[exp.Column]:
    columns = list(find_all(root, exp.Column)) if short.lists else []
    return [node for node in columns if node.name in short.lists]


def fold_long_lists(root: exp.Expr) -> None:
    """Make one leaf of each long list of literals that a tree still holds, in place."""
    for node in find_all(root, exp.In, exp.Tuple, exp.Array, exp.Values):
        parts = node.expressions
        if len(parts) > LONG_LIST and all(isinstance(part, exp.Literal) for part in parts):
            written = text(exp.Tuple(expressions=[part.copy() for part in parts]))
            node.set("expressions", [raw(written.removeprefix("(").removesuffix(")"))])
