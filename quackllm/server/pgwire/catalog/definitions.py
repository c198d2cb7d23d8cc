"""How each table, view and function of the catalog is made, and what it is made of.

A client asks for few of them at a time, so a session makes what a query names, and what that
is made of, and nothing else: the whole catalog takes longer than most clients' first statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quackllm.server.pgwire.catalog.empty import EMPTY, EMPTY_INFORMATION
from quackllm.server.pgwire.catalog.fixed import fixed_tables, with_letters
from quackllm.server.pgwire.catalog.functions import macros
from quackllm.server.pgwire.catalog.tables import GATHER, INFORMATION, TABLES

MOMENTARY = frozenset({"pg_settings", "pg_stat_activity"})
"""Tables that are made anew each time that they are asked for."""

OF_SESSION = MOMENTARY | {"pg_roles"}
"""Tables that the session fills by itself."""

RAW_TYPES = "raw_types"
"""The table of the types of `raw_columns`, which the session finds out."""

INFORMATION_PREFIX = "information_"
"""`information_schema.columns` is `information_columns` here."""

_WORD = re.compile(r"\w+")
_TEXT = re.compile(r"'[^']*'")
_TYPE_NAMES = {"oid": "UINTEGER", "text": "VARCHAR", "text[]": "VARCHAR[]", "oid[]": "UINTEGER[]"}


@dataclass(frozen=True)
class Definitions:
    """statements: by name, those that make the object; None for what the session fills.

    uses: by name, the names of the objects that the statement names.
    changing: names of what may differ after a statement has changed the database.
    """

    statements: Mapping[str, str | None]
    uses: Mapping[str, frozenset[str]]
    changing: frozenset[str]

    def needed(self, sql: str) -> list[str]:
        """Return what a query needs, in an order in which each finds what it is made of.

        Words are looked at, not syntax: a column that is called as a table makes one too much.
        """
        found: dict[str, None] = {}
        for name in sorted(_words(sql) & self.statements.keys()):
            self._add(name, found, ())
        return list(found)

    def _add(self, name: str, found: dict[str, None], path: tuple[str, ...]) -> None:
        if name in found or name in path:
            return
        for used in sorted(self.uses[name]):
            self._add(used, found, (*path, name))
        found[name] = None


def definitions(databases: Sequence[str]) -> Definitions:
    """Return the definitions of a server's catalog; databases are the names of those served."""
    statements: dict[str, str | None] = dict.fromkeys([*OF_SESSION, *GATHER, RAW_TYPES])
    statements.update(_tables({**fixed_tables(databases), **TABLES}))
    statements.update(_empty_tables())
    for name, sql in INFORMATION.items():
        shown = f"{INFORMATION_PREFIX}{name}"
        statements[shown] = f"CREATE OR REPLACE TEMP VIEW {shown} AS {sql}"
    statements.update(macros())
    uses = {
        name: frozenset((_words(sql or "") & statements.keys()) - {name})
        for name, sql in statements.items()
    }
    uses[RAW_TYPES] = frozenset({"raw_columns"})
    return Definitions(statements, uses, _changing(uses))


def _tables(queries: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield names and statements; tables and not views, since clients join many of them."""
    for name, sql in queries.items():
        yield name, f"CREATE OR REPLACE TEMP TABLE {name} AS {with_letters(name, sql)}"


def _empty_tables() -> Iterator[tuple[str, str]]:
    prefixed = {f"{INFORMATION_PREFIX}{name}": one for name, one in EMPTY_INFORMATION.items()}
    for name, columns in {**EMPTY, **prefixed}.items():
        pairs = (column.split(" ", 1) for column in columns.split(", "))
        typed = ", ".join(f"{column} {_TYPE_NAMES.get(kind, kind)}" for column, kind in pairs)
        yield name, f"CREATE OR REPLACE TEMP TABLE {name} ({typed})"


def _changing(uses: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return what is made, in any number of steps, of what the database says of itself."""
    found = {*GATHER, RAW_TYPES}
    while more := {name for name, used in uses.items() if used & found} - found:
        found |= more
    return frozenset(found)


def _words(sql: str) -> set[str]:
    return set(_WORD.findall(_TEXT.sub("", sql).lower()))
