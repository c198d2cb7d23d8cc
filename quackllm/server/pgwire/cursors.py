"""DECLARE, FETCH, MOVE and CLOSE: cursors of SQL, forwards only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.results import Rows, formats_for
from quackllm.server.pgwire.statements import Kind, Parsed
from quackllm.server.pgwire.types import Column
from quackllm.server.pgwire.work import Outcome

_NAME = r'("(?:[^"]|"")+"|\w+)'
_DECLARE = re.compile(
    rf"DECLARE\s+{_NAME}\s+(?P<options>(?:(?:BINARY|ASENSITIVE|INSENSITIVE|NO\s+SCROLL|SCROLL)\s+)*)"
    r"CURSOR\s+(?P<hold>WITH\s+HOLD\s+|WITHOUT\s+HOLD\s+)?FOR\s+(?P<query>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_FETCH = re.compile(
    rf"(?:FETCH|MOVE)\s+(?:(?P<direction>NEXT|FORWARD\s+ALL|FORWARD\s+\d+|FORWARD|ALL|\d+"
    rf"|PRIOR|FIRST|LAST|BACKWARD(?:\s+(?:ALL|\d+))?|ABSOLUTE\s+-?\d+|RELATIVE\s+-?\d+|-\d+)\s+)?"
    rf"(?:(?:FROM|IN)\s+)?{_NAME}\s*$",
    re.IGNORECASE,
)
_CLOSE = re.compile(rf"CLOSE\s+{_NAME}\s*$", re.IGNORECASE)

Open = Callable[[Sequence[int]], Outcome]
"""Runs the cursor's query, its columns in the formats given."""

Describe = Callable[[], "tuple[Column, ...] | None"]
"""Tells the columns of the cursor's query without running it."""


@dataclass(frozen=True)
class Declaration:
    """What DECLARE says; hold: the cursor outlives its transaction."""

    name: str
    sql: str
    hold: bool
    binary: bool


@dataclass
class _Cursor:
    declaration: Declaration
    open: Open
    describe: Describe
    rows: Rows | None = None
    is_held: bool = False


class Cursors:
    """The cursors of one session.

    The query runs at the first FETCH, when the formats of its columns are known.
    """

    def __init__(self) -> None:
        self._cursors: dict[str, _Cursor] = {}

    def has(self, name: str) -> bool:
        """Whether there is a cursor of that name."""
        return name in self._cursors

    def declaration(self, parsed: Parsed) -> Declaration:
        """Read a DECLARE. Raises `WireError`."""
        found = _DECLARE.match(parsed.sql)
        if found is None:
            raise WireError(
                SqlState.SYNTAX, "expected DECLARE name [BINARY] CURSOR [WITH HOLD] FOR query"
            )
        name = _unquoted(found[1])
        if name in self._cursors:
            raise WireError(SqlState.DUPLICATE_CURSOR, f'cursor "{name}" already exists')
        hold = (found["hold"] or "").upper().startswith("WITH ")
        return Declaration(name, found["query"], hold, "BINARY" in found["options"].upper())

    def add(self, declaration: Declaration, opened: Open, described: Describe) -> None:
        """Keep a cursor."""
        self._cursors[declaration.name] = _Cursor(declaration, opened, described)

    def columns(self, parsed: Parsed) -> tuple[Column, ...] | None:
        """Return the columns of a FETCH; nothing is run."""
        cursor, _ = self._fetched(parsed)
        return cursor.describe() if cursor.rows is None else cursor.rows.columns

    def run(self, parsed: Parsed, formats: Sequence[int]) -> Outcome:
        """Carry out FETCH, MOVE or CLOSE."""
        if parsed.kind is Kind.CLOSE:
            return self._close(parsed)
        cursor, count = self._fetched(parsed)
        rows = self._rows(cursor, formats)
        if parsed.kind is Kind.MOVE:
            return Outcome(None, f"MOVE {rows.skip(count)}")
        wanted = formats_for(formats, len(rows.columns)) if formats else rows.formats
        return Outcome(rows.part(count, wanted), "FETCH", counted=True)

    def end(self, *, committed: bool) -> None:
        """End a transaction: with it end its cursors, those with hold only if it is undone.

        One that has not run is forgotten too. Raises DuckDB's error about rows to be held.
        """
        cursors, self._cursors = self._cursors, {}
        for name, cursor in cursors.items():
            if committed and cursor.declaration.hold and cursor.rows is not None:
                cursor.rows.hold()
                cursor.is_held = True
            if cursor.is_held:
                self._cursors[name] = cursor
            elif cursor.rows is not None:
                cursor.rows.close()

    def close_all(self) -> None:
        """Forget all cursors."""
        for cursor in self._cursors.values():
            if cursor.rows is not None:
                cursor.rows.close()
        self._cursors.clear()

    def _fetched(self, parsed: Parsed) -> tuple[_Cursor, int]:
        found = _FETCH.match(parsed.sql)
        if found is None:
            raise WireError(SqlState.SYNTAX, "expected FETCH [NEXT | ALL | count] FROM name")
        return self._cursor(_unquoted(found[2])), _count(found["direction"])

    def _rows(self, cursor: _Cursor, formats: Sequence[int]) -> Rows:
        if cursor.rows is None:
            wanted = (1,) if cursor.declaration.binary else tuple(formats)
            outcome = cursor.open(wanted)
            if outcome.rows is None:
                raise WireError(SqlState.SYNTAX, "a cursor is for a query that has rows")
            cursor.rows = outcome.rows
        return cursor.rows

    def _close(self, parsed: Parsed) -> Outcome:
        if parsed.words[1:] == ("ALL",):
            self.close_all()
            return Outcome(None, "CLOSE CURSOR ALL")
        found = _CLOSE.match(parsed.sql)
        if found is None:
            raise WireError(SqlState.SYNTAX, "expected CLOSE name or CLOSE ALL")
        cursor = self._cursor(_unquoted(found[1]))
        del self._cursors[cursor.declaration.name]
        if cursor.rows is not None:
            cursor.rows.close()
        return Outcome(None, "CLOSE CURSOR")

    def _cursor(self, name: str) -> _Cursor:
        found = self._cursors.get(name)
        if found is None:
            raise WireError(SqlState.INVALID_CURSOR, f'cursor "{name}" does not exist')
        return found


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _count(direction: str | None) -> int:
    words = (direction or "NEXT").upper().split()
    if words[0] in ("PRIOR", "FIRST", "LAST", "BACKWARD", "ABSOLUTE", "RELATIVE") or words[
        0
    ].startswith("-"):
        raise WireError(
            SqlState.FEATURE_NOT_SUPPORTED,
            "cursors go forwards only",
            hint="FETCH NEXT, FETCH count and FETCH ALL are possible.",
        )
    last = words[-1]
    if last == "ALL":
        return 2**62
    return int(last) if last.isdigit() else 1
