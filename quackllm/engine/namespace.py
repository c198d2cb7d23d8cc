"""What a name in FROM means: DuckDB's search path, followed by hand.

DuckDB resolves names itself and tells nobody how. The rules are those of its
`CatalogSearchPath`: temporary objects first, then the schema of the view in whose body
the name stands, then the schemas that USE or `search_path` set, then `main`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
from sqlglot.tokenizer_core import Token, TokenType

from quackllm.engine.statement import split

ENTRIES = """
SELECT database_name, schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT database_name, schema_name, table_name, NULL FROM duckdb_tables()
"""
PATH = "SELECT current_setting('search_path'), current_database(), current_schema()"

Place = tuple[str, str]
"""A database and a schema in it."""


@dataclass(frozen=True)
class Entry:
    """A table, or a view with the statement that made it."""

    database: str
    schema: str
    name: str
    sql: str | None

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.database, self.schema

    @property
    def query(self) -> str:
        """What stands behind CREATE VIEW ... AS; '' for a table."""
        tokens = self._tokens
        at = next(
            (i for i, token in enumerate(tokens) if token.token_type == TokenType.ALIAS), None
        )
        return "" if at is None else (self.sql or "")[tokens[at + 1].start : tokens[-1].end + 1]

    @property
    def columns(self) -> list[str]:
        """The names in CREATE VIEW name (...) AS, none when there are none."""
        names: list[str] = []
        inside = False
        for token in self._tokens:
            if token.token_type == TokenType.ALIAS:
                break
            if token.token_type in (TokenType.L_PAREN, TokenType.R_PAREN):
                inside = token.token_type == TokenType.L_PAREN
            elif inside and token.token_type != TokenType.COMMA:
                names.append(token.text)
        return names

    @property
    def _tokens(self) -> tuple[Token, ...]:
        statements = split(self.sql or "")
        return statements[0].tokens if statements else ()


class Namespace:
    """Tables and views as one connection sees them at one moment."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._entries: dict[str, list[Entry]] = {}
        for row in connection.execute(ENTRIES).fetchall():
            self._entries.setdefault(row[2].lower(), []).append(Entry(*row))
        [(written, database, schema)] = connection.execute(PATH).fetchall()
        named = [_place(part, database) for part in _parts(written or "")]
        self._path = [*named, (database, schema), (database, "main")]

    def find(self, parts: Sequence[str], within: Place | None = None) -> Entry | None:
        """Find what a name of one to three parts means, None for what the catalog lacks.

        within: the place of the view whose body holds the name.
        """
        *qualified, name = parts
        entries = self._entries.get(name.lower(), [])
        for database, schema in self._places(qualified, within):
            for entry in entries:
                if _same(entry.database, database) and _same(entry.schema, schema):
                    return entry
        return None

    def means(self, qualified: Sequence[str], place: Place, within: Place | None = None) -> bool:
        """Whether a name with these parts before it may mean something at a place."""
        return any(
            _same(place[0], database) and _same(place[1], schema)
            for database, schema in self._places(qualified, within)
        )

    def is_searched(self, place: Place) -> bool:
        """Whether names without qualifiers are looked for at a place."""
        return self.means((), place)

    def _places(self, qualified: Sequence[str], within: Place | None) -> Iterator[Place]:
        path = [("temp", "main"), *([within] if within else []), *self._path]
        if len(qualified) == 2:
            yield qualified[0], qualified[1]
        elif len(qualified) == 1:
            yield from ((database, qualified[0]) for database, _ in path)
            yield qualified[0], "main"
        else:
            yield from path


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _parts(search_path: str) -> list[list[str]]:
    """Split the setting at its commas and points; DuckDB writes it without quotes."""
    return [part.strip().split(".") for part in search_path.split(",") if part.strip()]


def _place(part: list[str], database: str) -> Place:
    return (part[0], part[1]) if len(part) == 2 else (database, part[0])
