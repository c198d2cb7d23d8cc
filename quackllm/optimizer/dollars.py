"""`$1,$2` are two parameters: sqlglot takes `$1,$` for the beginning of a dollar-quoted text.

Its tokenizer ends the tag of such a text at the next `$`, whatever stands between, unless
there is white space. So white space is put behind parameters for tokenizing, and the places of
the tokens are counted in the text without it. In DuckDB's grammar a tag is a name or nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable

from sqlglot.tokenizer_core import Token

MISREAD = re.compile(r"\$\w+[^\s\w$][^\s$]*\$")
"""A parameter with another `$` behind it and no white space between."""

_LEXEME = re.compile(
    r"""
      [eE]'(?:[^'\\]|\\.|'')*'              # a text with escapes
    | '(?:[^']|'')*' | "(?:[^"]|"")*"       # a text, a name
    | --[^\n]* | /\*.*?\*/                  # comments
    | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
    | (?P<parameter>\$\w+)
    """,
    re.VERBOSE | re.DOTALL,
)


def spaced(sql: str) -> tuple[str, list[int]]:
    """Return the text with a space behind each parameter, and where those spaces stand."""
    parts: list[str] = []
    places: list[int] = []
    at = length = 0
    for found in _LEXEME.finditer(sql):
        if found["parameter"] is None:
            continue
        parts.append(sql[at : found.end()])
        length += len(parts[-1])
        places.append(length)
        parts.append(" ")
        length += 1
        at = found.end()
    return "".join([*parts, sql[at:]]), places


def relocate(tokens: Iterable[Token], places: list[int]) -> None:
    """Count the places of tokens in the text without the spaces that `spaced` put in."""
    for token in tokens:
        token.start -= bisect_right(places, token.start)
        token.end -= bisect_right(places, token.end)
