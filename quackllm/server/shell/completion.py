"""Completion: names of tables, columns, functions and settings, keywords, dot commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

import duckdb
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from quackllm.server.output import FORMATS
from quackllm.server.shell.dot_commands import COMMANDS

WORD = re.compile(r"[\w.]+$")
RELATION = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|VIEW|DESCRIBE|SUMMARIZE)\s+\w*$", re.IGNORECASE
)
"""Before a word that is likely the name of a table."""
SETTING = re.compile(r"\b(?:RE)?SET\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?\w*$", re.IGNORECASE)
FILE_COMMAND = re.compile(r"\s*\.(?:read|output|once|open|import|cd)\s")
PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

RELATIONS = """
    SELECT table_name, 'table' FROM duckdb_tables() WHERE NOT internal
    UNION SELECT view_name, 'view' FROM duckdb_views() WHERE NOT internal
    UNION SELECT schema_name, 'schema' FROM duckdb_schemas() WHERE NOT internal
    UNION SELECT database_name, 'database' FROM duckdb_databases() WHERE NOT internal
"""
COLUMNS = "SELECT DISTINCT column_name, 'column' FROM duckdb_columns() WHERE NOT internal"
MEMBERS = """
    SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal
    UNION SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal
"""
FUNCTIONS = "SELECT DISTINCT function_name, 'function' FROM duckdb_functions()"
KEYWORDS = "SELECT upper(keyword_name), 'keyword' FROM duckdb_keywords()"
SETTINGS = "SELECT name, 'setting' FROM duckdb_settings()"

Names = list[tuple[str, str]]


class NamesCompleter(Completer):
    """Completes the word before the cursor with names that the database has now.

    Names are read when the first completion after a statement asks for them.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._lock = Lock()
        self._known: dict[str, Names] = {}

    def forget(self) -> None:
        """Read the names anew: a statement may have changed them."""
        self._known = {}

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yield completions of the word before the cursor, the likeliest kinds first."""
        before = document.text_before_cursor
        begun_word = WORD.search(before)
        word = begun_word[0] if begun_word else ""
        if FILE_COMMAND.match(before):
            path = Document(before.split(maxsplit=1)[1] if before.split()[1:] else "")
            yield from PathCompleter(expanduser=True).get_completions(path, event)
            return
        if before.lstrip().startswith("."):
            yield from _beginning_with(word.lstrip("."), self._of_dot_command(before))
            return
        owner, dot, begun = word.rpartition(".")
        if dot:
            yield from _beginning_with(begun, self._members(owner.rpartition(".")[2]))
        elif SETTING.search(before):
            yield from _beginning_with(word, self._all()["settings"])
        elif word:
            found = RELATION.search(before) and [*_beginning_with(word, self._all()["relations"])]
            yield from found or _beginning_with(word, self._all()["names"])

    def _of_dot_command(self, before: str) -> Names:
        name, space, _ = before.lstrip()[1:].partition(" ")
        if not space:
            return [(command.name, "command") for command in COMMANDS]
        if name == "mode":
            return [(mode, "mode") for mode in FORMATS]
        if name in ("timer", "headers"):
            return [("on", ""), ("off", "")]
        return self._all()["relations"] if name in ("schema", "tables", "indexes") else []

    def _members(self, owner: str) -> Names:
        """Columns of a table, tables of a schema."""
        return [(name, "") for of, name in self._all()["members"] if of.lower() == owner.lower()]

    def _all(self) -> dict[str, Names]:
        with self._lock:
            if not self._known:
                self._known = self._read()
            return self._known

    def _read(self) -> dict[str, Names]:
        ours = [
            (row[0].upper(), "llm function")
            for row in self._rows("SELECT name FROM llm_functions()")
        ]
        relations = self._rows(RELATIONS)
        names = [*relations, *self._rows(COLUMNS), *ours]
        return {
            "relations": relations,
            "members": self._rows(MEMBERS),
            "settings": [
                *((row[0], "setting") for row in self._rows("SELECT name FROM llm_settings()")),
                *self._rows(SETTINGS),
            ],
            "names": [*names, *self._rows(FUNCTIONS), *self._rows(KEYWORDS)],
        }

    def _rows(self, query: str) -> list[Any]:
        """Read a list of names; none in a transaction that has failed."""
        try:
            with self._connection.cursor() as cursor:
                return list(cursor.execute(query).fetchall())
        except duckdb.Error:
            return []


def _beginning_with(word: str, names: Names) -> Iterator[Completion]:
    seen: set[str] = set()
    for name, kind in names:
        if name.lower().startswith(word.lower()) and name.lower() not in seen:
            seen.add(name.lower())
            text = _quoted(name, kind)
            yield Completion(text, -len(word), display=name, display_meta=kind)


def _quoted(name: str, kind: str) -> str:
    """Write a name of a table or a column so that it can stand in a statement."""
    if kind not in ("table", "view", "schema", "database", "column", "") or PLAIN.fullmatch(
        name.lower()
    ):
        return name
    return '"' + name.replace('"', '""') + '"'
