"""What a COPY from or to the client says."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quackllm.engine.statement import CLOSING, OPENING
from quackllm.server.pgwire.errors import SqlState, WireError

if TYPE_CHECKING:
    from quackllm.server.pgwire.statements import Parsed

_OPTION = re.compile(
    r"\s*(?P<name>\w+)\s*(?P<value>E?'(?:[^']|'')*'|\"[^\"]*\"|\([^)]*\)|\*|[\w.]+)?\s*(?:,|$)"
)
_LEGACY = re.compile(
    r"\s*(?:WITH\s+)?(?P<name>BINARY|CSV|HEADER|DELIMITERS?|NULL|QUOTE|ESCAPE|FORCE\s+QUOTE|ENCODING)"
    r"(?:\s+AS)?(?:\s*(?P<value>E?'(?:[^']|'')*'|\*))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class CopyOptions:
    """A COPY: source is a table or, with is_query, a query; items are its columns."""

    source: str
    items: str
    is_query: bool
    is_input: bool
    format: str = "text"
    delimiter: str = "\t"
    null: str = "\\N"
    quote: str = '"'
    escape: str = '"'
    header: bool = False


def copy_options(parsed: Parsed) -> CopyOptions:
    """Read a COPY statement. Raises `WireError`."""
    statement, words = parsed.statement, parsed.words
    is_input = "STDIN" in words
    end = _stream_word(parsed)
    tokens = statement.tokens
    offset = statement.offset  # tokens count from the beginning of all that was sent
    target = statement.sql[tokens[1].start - offset : tokens[end - 1].start - offset].strip()
    behind = statement.sql[tokens[end].end + 1 - offset :].strip()
    if target.startswith("("):
        copy = CopyOptions(target[1:].rstrip()[:-1], "*", True, is_input)
    else:
        table, _, columns = target.partition("(")
        items = columns.strip().removesuffix(")") if columns else "*"
        copy = CopyOptions(table.strip(), items, False, is_input)
    return _with_options(copy, behind)


def _stream_word(parsed: Parsed) -> int:
    """Return the index of STDIN or STDOUT, outside of parentheses."""
    depth = 0
    for index, token in enumerate(parsed.statement.tokens):
        depth += token.token_type in OPENING
        depth -= token.token_type in CLOSING
        if depth == 0 and parsed.words[index] in ("STDIN", "STDOUT"):
            return index
    raise WireError(SqlState.SYNTAX, "expected COPY ... TO STDOUT or COPY ... FROM STDIN")


def _with_options(copy: CopyOptions, written: str) -> CopyOptions:
    given: dict[str, str | None] = {}
    inside = re.fullmatch(r"(?:WITH\s*)?\((.*)\)", written, re.IGNORECASE | re.DOTALL)
    text, pattern = (inside[1], _OPTION) if inside else (written, _LEGACY)
    at = 0
    while at < len(text.rstrip()):
        found = pattern.match(text, at)
        if found is None or found.end() == at:
            raise WireError(
                SqlState.SYNTAX, f"syntax error in the options of COPY at {text[at:]!r}"
            )
        name = " ".join(found["name"].lower().split())
        if pattern is _LEGACY and name in ("binary", "csv"):
            given["format"] = name
        else:
            given[name] = found["value"]
        at = found.end()
    return _applied(copy, given)


def _applied(copy: CopyOptions, given: dict[str, str | None]) -> CopyOptions:
    changes: dict[str, Any] = {}
    form = _unquoted(given.pop("format", None) or "text").lower()
    if form not in ("text", "csv", "binary"):
        raise WireError(
            SqlState.INVALID_PARAMETER,
            f'COPY format "{form}" not recognized',
            hint="The formats are text, csv and binary.",
        )
    if form == "csv":
        copy = replace(copy, delimiter=",", null="")
    for name, value in given.items():
        if name in ("delimiter", "delimiters", "null", "quote", "escape") and value is not None:
            changes[name.removesuffix("s")] = _unquoted(value)
        elif name == "header":
            word = (_unquoted(value) if value else "true").lower()
            changes["header"] = word in ("true", "on", "1", "match")
        elif name not in ("encoding", "freeze", "force_quote", "force quote", "force_null",
                          "force_not_null", "oids"):  # fmt: skip
            raise WireError(SqlState.SYNTAX, f'option "{name}" not recognized')
    if "quote" in changes and "escape" not in changes:
        changes["escape"] = changes["quote"]
    for name in ("delimiter", "quote", "escape"):
        if len(changes.get(name, "x")) != 1:
            raise WireError(SqlState.INVALID_PARAMETER, f"COPY {name} must be a single character")
    return replace(copy, format=form, **changes)


def _unquoted(value: str) -> str:
    if value[:2].upper() == "E'":
        return value[2:-1].replace("''", "'").encode().decode("unicode_escape")
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    return value.strip('"')
