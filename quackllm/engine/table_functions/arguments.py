"""Names of tables and columns that table functions are given, checked alike."""

from __future__ import annotations

import re
from collections.abc import Iterable

from quackllm.engine.table_functions.base import ROW_NUMBER, Request, Source, Workspace
from quackllm.errors import BindError
from quackllm.udfs.prompt import did_you_mean

QUERY = re.compile(r"[\s(]*(select|from|with)\s", re.IGNORECASE)
"""The beginning of a query; a table that is called so is named in double quotes."""


def given_source(request: Request, workspace: Workspace) -> Source:
    """Find the table that the argument `table` names.

    Raises `BindError` without one, for a query in its place, and for one with a column `rowid`:
    rows are told apart by DuckDB's own row numbers, which such a column hides.
    """
    name = given_name(request, "table")
    if QUERY.match(name):
        raise BindError(
            f"Binder Error: {request.function}: table must be the name of a table, a view or a "
            f"CTE, not a query: WITH found AS (...) FROM {request.function}('found', ...)"
        )
    source = workspace.source(name)
    if source.type_of(ROW_NUMBER) is not None:
        raise BindError(
            f"Binder Error: {request.function}: {request.constants['table']} has a column "
            f"{ROW_NUMBER} of its own, which hides the row numbers that are needed here; give it "
            "another name in a view or a CTE and name that"
        )
    return source


def given_column(request: Request, source: Source) -> str:
    """Return the column that the argument `column` names. Raises `BindError` without one."""
    return known_column(request, source, "column", given_name(request, "column"))


def given_name(request: Request, parameter: str) -> str:
    """Return the value of an argument that is a name. Raises `BindError` for anything else."""
    value = request.constants[parameter]
    if not isinstance(value, str) or not value.strip():
        raise BindError(
            f"Binder Error: {request.function}: {parameter} must be the name of a {parameter} in "
            f"quotes, not {value!r}"
        )
    return value


def known_column(request: Request, source: Source, parameter: str, column: str) -> str:
    """Return a column's name as the table has it. Raises `BindError` where it has none."""
    names = {name.lower(): name for name, _ in source.columns}
    if column.lower() not in names:
        hint = did_you_mean(column, names.values())
        raise BindError(
            f"Binder Error: {request.function}: {parameter}: {request.constants['table']} has no "
            f"column {column}{hint} Columns: {', '.join(names.values())}"
        )
    return names[column.lower()]


def refuse_added(request: Request, source: Source, added: Iterable[str]) -> None:
    """Raise `BindError` for a table that has a column which the function adds."""
    for name in added:
        if source.type_of(name) is not None:
            raise BindError(
                f"Binder Error: {request.function}: {request.constants['table']} has a column "
                f"{name} of its own, which the result adds; give it another name in a view or a "
                "CTE and name that"
            )
