"""Table functions that call a model: LLM_SEARCH, llm_dedup and llm_dedup_pairs in FROM."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fuzz.cases import BOOLEAN, DOUBLE, INTEGER, VARCHAR, Column, Scope, Table, TableUse
from tests.fuzz.source import Source

QUESTIONS = ("'x'", "'it''s y'", "NULL")

MODES = ("lexical", "vector", "hybrid")

FOUND = (Column("rank", INTEGER), Column("score", DOUBLE))
"""What LLM_SEARCH adds to the columns of its table."""

CLUSTERED = (
    Column("cluster_id", INTEGER),
    Column("is_canonical", BOOLEAN),
    Column("cluster_rows", INTEGER),
    Column("conflicts", INTEGER),
    Column("unanswered", INTEGER),
)
"""What llm_dedup adds to the columns of its table."""


COMPARED = (
    Column("a", VARCHAR),
    Column("b", VARCHAR),
    Column("same", BOOLEAN),
    Column("is_conflict", BOOLEAN),
)
"""What llm_dedup_pairs gives, its similarity left out, which is no DOUBLE."""


def table_function(source: Source, table: Table) -> tuple[str, tuple[Column, ...]]:
    """Write a table function over a table, and list the columns that it gives."""
    if source.chance(2):
        text = _search(source, table, source.pick(QUESTIONS), MODES)
        source.tables.append(TableUse(text))
        return text, (*table.columns, *FOUND)
    name = source.pick(("llm_dedup", "llm_dedup", "llm_dedup_pairs"))
    source.use(f"function: {name.upper()}")
    source.calls += 1
    given = _texts_of(source, table)
    if source.chance(3):
        given += ["prompt := 'Is {a} {b}?'", "threshold := -1"]
    text = f"{name}({', '.join(given)})"
    source.tables.append(TableUse(text))
    return text, COMPARED if name.endswith("pairs") else (*table.columns, *CLUSTERED)


def search_of_rows(
    source: Source, table: Table, question: Column, asked: Table
) -> tuple[str, tuple[Column, ...]]:
    """Write a search of a table whose question is a column of another, which stands before it.

    By words: similarities of many questions are one product of matrices, whose last digits may
    be others than those of one question alone.
    """
    source.use("LLM_SEARCH by a column")
    text = _search(source, table, question.sql, ("lexical",))
    values = f"SELECT {question.name} FROM {asked.name} UNION SELECT NULL"
    source.tables.append(TableUse(text, question.sql, values))
    return text, (*table.columns, *FOUND)


def _search(source: Source, table: Table, question: str, modes: Sequence[str]) -> str:
    source.use("function: LLM_SEARCH")
    source.calls += 1
    mode = source.pick(modes)
    given = [
        *_texts_of(source, table),
        question,
        f"mode := '{mode}'",
        f"k := {1 + source.below(4)}",
    ]
    if source.chance(3):
        given.append("rerank := 2")
    return f"LLM_SEARCH({', '.join(given)})"


def _texts_of(source: Source, table: Table) -> list[str]:
    """The arguments that name a table and a column of texts."""
    column = source.pick(Scope(table.columns).of_type(VARCHAR)).sql
    name = column.strip('"').replace('""', '"')
    return [f"'{table.name}'", f"'{name}'"]
