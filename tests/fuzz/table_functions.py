"""Table functions that call a model: LLM_SEARCH and llm_dedup in FROM."""

from __future__ import annotations

from tests.fuzz.cases import BOOLEAN, DOUBLE, INTEGER, VARCHAR, Column, Scope, Table
from tests.fuzz.source import Source

QUESTIONS = ("'x'", "'it''s y'", "NULL")

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


def table_function(source: Source, table: Table) -> tuple[str, tuple[Column, ...]]:
    """Write a table function over a table, and list the columns that it gives."""
    column = source.pick(Scope(table.columns).of_type(VARCHAR)).sql
    name = column.strip('"').replace('""', '"')
    given = [f"'{table.name}'", f"'{name}'"]
    search = source.chance(2)
    source.use("function: LLM_SEARCH" if search else "function: LLM_DEDUP")
    source.calls += 1
    if search:
        mode = source.pick(("lexical", "vector", "hybrid"))
        given += [source.pick(QUESTIONS), f"mode := '{mode}'", f"k := {1 + source.below(4)}"]
        if source.chance(3):
            given.append("rerank := 2")
    elif source.chance(3):
        given += ["prompt := 'Is {a} {b}?'", "threshold := -1"]
    text = f"{'LLM_SEARCH' if search else 'llm_dedup'}({', '.join(given)})"
    source.tables.append(text)
    return text, (*table.columns, *(FOUND if search else CLUSTERED))
