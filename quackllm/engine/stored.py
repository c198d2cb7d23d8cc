"""Which views and macros call a model: known cheaply, since every statement asks.

DuckDB says what is in its catalog only by a query, which costs more than a tiny statement
itself. So the names are remembered. A name too many costs a look into the catalog; names
are therefore added and never taken away, and a DROP, a ROLLBACK or a temporary view of
another cursor needs no care. What is added by others is learned when DuckDB evaluates it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import duckdb

from quackllm.engine.statement import Statement
from quackllm.engine.transactions import finish
from quackllm.optimizer.naive import FUNCTION

WORD = re.compile(r"\w+")
BRINGS_DEFINITIONS = re.compile(r"(?:^|;|\*/)\s*(?:ATTACH|IMPORT)\b", re.IGNORECASE | re.MULTILINE)
"""A statement that begins so may bring views and macros that we have not seen."""

DEFINITIONS = """
SELECT view_name AS name, sql AS definition FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT function_name, macro_definition FROM duckdb_functions()
WHERE NOT internal AND macro_definition IS NOT NULL
"""


class StoredNames:
    """Names of the views and macros that call a model, or may; shared by all cursors.

    outdated: whether there may be others; the next statement then looks.
    """

    def __init__(self, uses: Callable[[str], bool] = lambda text: False) -> None:
        """Make an empty set; `uses` says whether a definition uses a table function."""
        self.outdated = False
        self._uses = uses
        self._names: frozenset[str] = frozenset()
        self._words: frozenset[str] = frozenset()
        self._odd: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._names

    def add(self, *names: str) -> None:
        """Add names, as they are without quotes."""
        added = self._names.union(name.lower() for name in names)
        if added == self._names:
            return
        words = {name: WORD.search(name.replace('"', '""')) for name in added}
        self._words = frozenset(word[0] for word in words.values() if word)
        self._odd = tuple(name for name, word in words.items() if not word)
        self._names = added

    def mentioned_in(self, sql: str) -> bool:
        """Whether a text may name one of them: it holds the first word of a name."""
        if not self._names:
            return False
        lowered = sql.lower()
        if not self._words.isdisjoint(WORD.findall(lowered)):
            return True
        return any(name in lowered for name in self._odd)

    def refresh(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Look into the catalog, as a connection sees it."""
        finish(connection)
        try:
            rows = connection.execute(DEFINITIONS).fetchall()
        except duckdb.Error:
            return  # in an aborted transaction: later, then
        self.outdated = False
        texts = [(name, text or "") for name, text in rows]
        found = {name for name, text in texts if FUNCTION in text or self._uses(text)}
        while found:  # those that use the ones that were found
            self.add(*found)
            found = {n for n, text in rows if n not in self and self.mentioned_in(text or "")}

    def note(self, statement: Statement) -> None:
        """Add the name that a statement of ours is about to give to a view or a macro."""
        name = _name_given(statement)
        if name is not None:
            self.add(name)


def _name_given(statement: Statement) -> str | None:
    """The last part of the name behind CREATE VIEW, CREATE MACRO or RENAME TO."""
    words = [token.text.upper() for token in statement.tokens]
    if words[:1] == ["CREATE"]:
        kinds = [
            at for at in range(1, 5) if words[at : at + 1] in (["VIEW"], ["MACRO"], ["FUNCTION"])
        ]
        at = kinds[0] + 1 if kinds else None
    elif words[:1] == ["ALTER"] and "RENAME" in words:
        at = words.index("RENAME") + 2
    else:
        return None
    if at is None:
        return None
    if words[at : at + 3] == ["IF", "NOT", "EXISTS"]:
        at += 3
    while words[at + 1 : at + 2] == ["."]:
        at += 2
    return statement.tokens[at].text if at < len(words) else None
