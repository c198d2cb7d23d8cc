"""Bulk ingestion: what a client says of a table and its rows, as statements."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from quackllm.optimizer.sql import quote
from quackllm.server.pgwire.errors import SqlState, WireError

_CREATE, _FAIL_WITHOUT = 1, 2
"""What to do when the table does not exist."""

_FAIL, _APPEND, _REPLACE = 1, 2, 3
"""What to do when it does."""


@dataclass(frozen=True)
class Ingestion:
    """Statements that store rows.

    source, shape: names by which they know the rows, and an empty table of their columns.
    """

    statements: tuple[str, ...]
    source: str
    shape: str


def ingestion_of(command: Any) -> Ingestion:
    """Read a CommandStatementIngest. Raises `WireError` for one that says nothing clear."""
    if command.temporary and (command.schema or command.catalog):
        raise WireError(
            SqlState.INVALID_PARAMETER, "a temporary table has no schema or catalog of its own"
        )
    parts = ["temp"] if command.temporary else [command.catalog, command.schema]
    table = ".".join(quote(part) for part in (*parts, command.table) if part)
    made = f"TEMP TABLE {quote(command.table)}" if command.temporary else f"TABLE {table}"
    source = f"ingested_{secrets.token_hex(6)}"
    shape = f"{source}_shape"
    options = command.table_definition_options
    return Ingestion(_statements(table, made, source, shape, options), source, shape)


def _statements(table: str, made: str, source: str, shape: str, options: Any) -> tuple[str, ...]:
    insert = f"INSERT INTO {table} BY NAME SELECT * FROM {source}"
    wanted = (options.if_not_exist, options.if_exists)
    if wanted == (_CREATE, _FAIL):
        return (f"CREATE {made} AS SELECT * FROM {source}",)
    if wanted == (_CREATE, _REPLACE):
        return (f"CREATE OR REPLACE {made} AS SELECT * FROM {source}",)
    if wanted == (_CREATE, _APPEND):
        created = made.replace("TABLE ", "TABLE IF NOT EXISTS ", 1)
        return (f"CREATE {created} AS SELECT * FROM {shape}", insert)
    if wanted == (_FAIL_WITHOUT, _APPEND):
        return (insert,)
    raise WireError(
        SqlState.INVALID_PARAMETER, "the table is to be created, appended to or replaced"
    )
