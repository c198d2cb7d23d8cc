"""A second try for a SELECT whose plan has failed in DuckDB: as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from quackllm.engine.planner import PlannedQuery, Planner
from quackllm.engine.transactions import is_aborted
from quackllm.errors import QuackLLMError

EVALUATION = (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException)
"""What DuckDB raises while it evaluates an expression for the values of a row."""


def in_written_order(
    error: duckdb.Error,
    sql: str,
    parameters: Mapping[str, Any],
    run: str,
    planner: Planner,
    connection: duckdb.DuckDBPyConnection,
) -> PlannedQuery:
    """Plan a SELECT again, its calls by the scalar function, where its plan may be to blame.

    A plan evaluates plain expressions before calls, to ask less; one that fails so for a row
    that a call leaves out says nothing of the statement. Raises the error where it is the
    statement's own, and in a transaction, which it has aborted.
    """
    ours = isinstance(error, QuackLLMError) or "Python exception" in str(error)
    if ours or is_aborted(connection):
        raise error
    planned = planner.in_written_order(sql, parameters, run)
    if planned is None:
        raise error
    return planned
