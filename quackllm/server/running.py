"""One statement in a terminal: its rows on standard output, its cost on standard error."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import duckdb

from quackllm.engine.statement import Statement, explain_of, is_query
from quackllm.server.formats.rows import Look
from quackllm.server.output import FORMATS, write_plan
from quackllm.server.places import located

STATUS_COLUMNS = (["Count"], ["Success"])
"""Columns of what DuckDB 2 returns for statements that have no rows of their own."""


def run_statement(
    connection: Any,
    statement: Statement,
    style: str,
    look: Look | None = None,
    out: TextIO | None = None,
) -> None:
    """Run one statement, print its rows in the style, and say what its calls cost.

    out: where rows go, standard output when None.
    """
    out = sys.stdout if out is None else out
    history = connection.llm_engine.history
    before = history[-1].number if history else 0
    try:
        if explain_of(statement) is not None:
            for *_, plan in connection.execute(statement.sql).fetchall():
                write_plan(plan.rstrip("\n"), out)
            return
        rows = _rows(connection, statement)
        if rows is not None:
            FORMATS[style](rows, out, look or Look())
            out.flush()
    finally:
        for stats in [one for one in history if one.number > before and one.tuples]:
            say(f"-- {stats.summary()}")


def _rows(connection: Any, statement: Statement) -> Any:
    """Run a statement; return the relation of its rows, None when it has none to show.

    Its calls have been made when this returns, so that nothing is printed of one that fails.
    """
    try:
        relation = connection.sql(statement.sql)
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        if is_query(statement):
            raise located(connection, error, statement.sql) from None
        raise
    if relation is None or (relation.columns in STATUS_COLUMNS and not is_query(statement)):
        return None
    finished = getattr(relation, "quackllm_finished", None)
    return relation if finished is None else finished()


def say(text: str) -> None:
    """Print a line for the person, behind the rows that were printed."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
