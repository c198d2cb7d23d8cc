"""The shell's tables in the engine: those that a statement names, as long as it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp
from sqlglot.errors import SqlglotError

from quackllm.engine.statement import Statement, explain_of
from quackllm.engine.table_functions import TableFunctions
from quackllm.engine.table_functions.entries import named_tables
from quackllm.engine.variables import table_names
from quackllm.optimizer.sql import literal, parse, quote
from quackllm.server.pgwire import calls

if TYPE_CHECKING:
    from quackllm import Connection

Ask = Callable[[str], pa.Table]
"""Runs a query in the shell. Raises `ShellError`."""

ELSEWHERE = re.compile(r"[./*:]")
"""In the name of a table, this makes it a file, which the engine reads itself."""

SYSTEM_SCHEMAS = frozenset({"information_schema", "pg_catalog"})

NO_FORM = re.compile(
    r"\b(UNION|BIT|TIME WITH TIME ZONE|TIME_NS|UHUGEINT|BIGNUM|VARINT|VARIANT|GEOMETRY)\b"
)
"""Types that are handed over as texts, alone or as a part of others."""

STAYS_TEXT = re.compile(r"\b(UNION|VARIANT|GEOMETRY)\b")
"""Those of them that DuckDB does not make of a text again."""

DEFINITIONS_WITH_CALLS = r"""
SELECT count(*) > 0 AS found FROM (
    SELECT sql AS definition FROM duckdb_views() WHERE NOT internal
    UNION ALL
    SELECT macro_definition FROM duckdb_functions()
    WHERE function_type IN ('macro', 'table_macro') AND NOT internal
) WHERE regexp_matches(definition, '\b(llm|ai)(_\w+)?\W*\(', 'i')
"""
"""Whether any view or macro of the shell's may call a model."""

HOME = "memory"
"""The engine's own database, for names without one."""

ROWS = "__shell_rows"


class ShellError(Exception):
    """The shell could not run a query; the text says why."""


@dataclass(frozen=True)
class TableName:
    """A table as a statement names it: up to three parts, the last one its own name."""

    parts: tuple[str, ...]

    @property
    def sql(self) -> str:
        return ".".join(map(quote, self.parts))


@dataclass(frozen=True)
class Copied:
    """A table of the shell's.

    target: its name in the engine. home: the database and schema that have to be there; None
    for those that always are. items: what its columns are made of.
    """

    target: str
    home: tuple[str, str] | None
    items: str
    rows: pa.Table


def copies(statement: Statement, ask: Ask, *, with_rows: bool) -> list[Copied]:
    """Fetch the tables that a statement names from the shell, columns that it may need only.

    with_rows: whether the statement will run; without, the tables stay empty. An EXPLAIN has
    the rows, for its estimates, but those of views that call a model.
    """
    tree = _tree(statement)
    explain = explain_of(statement)
    dry = explain is not None and not explain.analyze
    fetched = (
        _fetch(name, statement.sql, tree, ask, with_rows, dry) for name in _names(statement, tree)
    )
    return [each for each in fetched if each is not None]


@contextmanager
def placed(connection: Connection, tables: Sequence[Copied]) -> Iterator[None]:
    """Have the tables in the engine as long as a statement runs."""
    made: list[str] = []
    try:
        for table in tables:
            _place(connection, table)
            made.append(table.target)
        yield
    finally:
        for target in made:
            calls.execute(connection, f"DROP TABLE IF EXISTS {target}")


def _tree(statement: Statement) -> exp.Expr | None:
    explain = explain_of(statement)
    try:
        return parse(statement.sql[explain.length if explain else 0 :])
    except SqlglotError:
        return None


def _names(statement: Statement, tree: exp.Expr | None) -> list[TableName]:
    """List the tables that are named; names of CTEs too, which hide what they are taken for."""
    if tree is None:
        found = [TableName((name,)) for name in table_names(statement.tokens)]
    else:
        tables = [t for t in tree.find_all(exp.Table) if isinstance(t.this, exp.Identifier)]
        tables += named_tables(tree, TableFunctions())
        found = [TableName(tuple(part.name for part in table.parts)) for table in tables]
    distinct = {tuple(map(str.lower, name.parts)): name for name in found}
    return [name for name in distinct.values() if not _is_elsewhere(name)]


def _is_elsewhere(name: TableName) -> bool:
    return (
        len(name.parts) > 3
        or ELSEWHERE.search(name.parts[-1]) is not None
        or any(part.lower() in SYSTEM_SCHEMAS for part in name.parts[:-1])
    )


def _fetch(
    name: TableName, sql: str, tree: exp.Expr | None, ask: Ask, with_rows: bool, dry: bool
) -> Copied | None:
    """Fetch one table; None when the shell has no such table.

    dry: no model may be called for the rows.
    """
    try:
        described = ask(f"SELECT column_name, column_type FROM (DESCRIBE FROM {name.sql})")
    except ShellError as error:
        if "does not exist" in str(error):  # a CTE's name, a file's, or one that we shall refuse
            return None
        raise
    columns = list(zip(*described.to_pydict().values(), strict=True))
    needed = columns if _takes_all(tree, name) else _mentioned(columns, sql)
    query = f"SELECT {', '.join(map(_handed_over, needed))} FROM {name.sql}"
    if not with_rows or (dry and _may_call_a_model(name, ask)):
        query += " LIMIT 0"
    target, home = _target(name, ask)
    return Copied(target, home, ", ".join(map(_received, needed)), ask(query))


def _may_call_a_model(name: TableName, ask: Ask) -> bool:
    """Whether reading a table may call a model: it is a view, and there are views with calls."""
    view = literal(name.parts[-1])
    query = (
        f"SELECT count(*) > 0 AS found FROM duckdb_views() WHERE lower(view_name) = lower({view})"
    )
    return all(ask(each)["found"][0].as_py() for each in (query, DEFINITIONS_WITH_CALLS))


def _place(connection: Connection, table: Copied) -> None:
    if table.home is not None:
        database, schema = table.home
        if database.lower() != HOME:
            calls.execute(connection, f"ATTACH IF NOT EXISTS ':memory:' AS {quote(database)}")
        calls.execute(connection, f"CREATE SCHEMA IF NOT EXISTS {quote(database)}.{quote(schema)}")
    connection.register(ROWS, table.rows)
    try:
        create = f"CREATE OR REPLACE TABLE {table.target} AS SELECT {table.items} FROM {ROWS}"
        calls.execute(connection, create)
    finally:
        connection.unregister(ROWS)


def _handed_over(column: tuple[str, str]) -> str:
    name, type_ = column
    if NO_FORM.search(type_):
        return f"CAST({quote(name)} AS VARCHAR) AS {quote(name)}"
    return quote(name)


def _received(column: tuple[str, str]) -> str:
    name, type_ = column
    if STAYS_TEXT.search(type_):
        return quote(name)
    return f"CAST({quote(name)} AS {type_}) AS {quote(name)}"


def _mentioned(columns: Sequence[tuple[str, str]], sql: str) -> list[tuple[str, str]]:
    """Return the columns whose name stands anywhere in a text; one at least."""
    lowered = sql.lower()
    return [each for each in columns if each[0].lower() in lowered] or list(columns[:1])


def _takes_all(tree: exp.Expr | None, table: TableName) -> bool:
    """Whether a statement may read columns that it does not name."""
    if tree is None or not isinstance(tree, exp.Query):
        return True
    names = {table.parts[-1].lower()}
    for found in tree.find_all(exp.Table):
        if found.alias and found.name.lower() in names:
            names.add(found.alias.lower())
    for node in tree.walk():
        if isinstance(node, exp.Star) and not _counted(node):
            return True
        if isinstance(node, exp.Column) and node.name.lower() in names:
            return True
        if isinstance(node, exp.Anonymous) and node.name.lower() in ("columns", "unpack"):
            return True
        if isinstance(node, exp.Columns | exp.Pivot | exp.Summarize):
            return True
        if isinstance(node, exp.Join) and str(node.args.get("method", "")).upper() == "NATURAL":
            return True
        if isinstance(node, exp.SetOperation) and node.args.get("by_name"):
            return True
    return False


def _counted(star: exp.Star) -> bool:
    parent = star.parent
    return isinstance(parent, exp.Anonymous) and parent.name.lower() == "count"


def _target(name: TableName, ask: Ask) -> tuple[str, tuple[str, str] | None]:
    """Name the table in the engine as the statement does, and what has to hold it."""
    *before, table = name.parts
    if not before:
        return f"{HOME}.main.{quote(table)}", None
    if len(before) == 1:
        found = ask(
            "SELECT count(*) > 0 AS found FROM duckdb_databases() "
            f"WHERE lower(database_name) = lower({literal(before[0])})"
        )
        before = [before[0], "main"] if found["found"][0].as_py() else [HOME, before[0]]
    database, schema = before
    return f"{quote(database)}.{quote(schema)}.{quote(table)}", (database, schema)
