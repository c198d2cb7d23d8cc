"""Where in a statement an error is: DuckDB tells it when a statement runs, not of a relation."""

from __future__ import annotations

from typing import Any

import duckdb

EXPLAIN = "EXPLAIN "
PLACE = "\n\nLINE "
"""Begins the excerpt with a caret at the end of DuckDB's messages."""


def located(connection: Any, error: duckdb.Error, sql: str) -> duckdb.Error:
    """Return an error of binding a query, with its place if DuckDB can find it.

    connection: of quackllm. Another one to its database is asked, since a failing statement
        would abort the transaction of this one.
    """
    message = str(error)
    if PLACE in message:
        return error
    cursor = connection.cursor()
    try:
        cursor.execute(f"{EXPLAIN}{sql}")
    except duckdb.Error as found:
        head, place, excerpt = str(found).partition(PLACE)
        if place and head.strip() == message.strip():
            return type(error)(head + place + _without_explain(excerpt))
    finally:
        cursor.close()
    return error


def _without_explain(excerpt: str) -> str:
    """Take EXPLAIN out of '1: EXPLAIN SELECT ...' and move the caret below."""
    shown, _, caret = excerpt.partition("\n")
    if EXPLAIN not in shown:
        return excerpt
    return shown.replace(EXPLAIN, "", 1) + "\n" + caret[len(EXPLAIN) :]
