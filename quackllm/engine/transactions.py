"""Transactions of the user's and of ours. No statement here fails but by intent: in DuckDB a
failing statement aborts the transaction that it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb


def in_transaction(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the user has begun a transaction on the connection.

    Outside of one every statement is a transaction of its own. Raises DuckDB's
    `TransactionException` when the transaction is aborted.
    """
    numbers = [connection.execute("SELECT txid_current()").fetchall() for _ in range(2)]
    return bool(numbers[0] == numbers[1])


def is_aborted(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the connection stands in a transaction that an error has aborted."""
    try:
        in_transaction(connection)
    except duckdb.TransactionException:
        return True
    return False


def finish(connection: duckdb.DuckDBPyConnection) -> None:
    """End a result of ours that was not read to its end: DuckDB 2 refuses `sql` until then."""
    complete = getattr(connection, "complete", None)
    if complete is not None:
        complete()


@contextmanager
def aborted_by_errors(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Abort the transaction at any error, as a statement of DuckDB's that fails does."""
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):
            connection.execute("SELECT error('the statement has failed')")
        raise


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One snapshot for several queries; inside a transaction of the user's, that one."""
    if in_transaction(connection):
        yield
        return
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
