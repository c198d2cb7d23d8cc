"""One statement in a terminal: its rows on standard output, its cost on standard error."""

from __future__ import annotations

import sys
from typing import Any

from quackllm.engine.statement import Statement, explain_of, is_query
from quackllm.server.output import FORMATS

STATUS_COLUMNS = (["Count"], ["Success"])
"""Columns of what DuckDB 2 returns for statements that have no rows of their own."""


def run_statement(connection: Any, statement: Statement, style: str) -> None:
    """Run one statement, print its rows in the style, and say what its calls cost."""
    history = connection.llm_engine.history
    before = history[-1].number if history else 0
    try:
        if explain_of(statement) is not None:
            for *_, plan in connection.execute(statement.sql).fetchall():
                print(plan.rstrip("\n"), flush=True)
            return
        relation = connection.sql(statement.sql)
        status = relation is None or (
            relation.columns in STATUS_COLUMNS and not is_query(statement)
        )
        if not status:
            FORMATS[style](relation, sys.stdout)
            sys.stdout.flush()
    finally:
        for stats in [one for one in history if one.number > before and one.tuples]:
            say(f"-- {stats.summary()}")


def say(text: str) -> None:
    """Print a line for the person, behind the rows that were printed."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
