"""Golden plans: one .sql file each, and beside it the plan that was filled in and reviewed.

`python -m tests.optimizer.goldens` writes the plans anew; the difference is to be read
before it is committed.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider
from tests.engine.conftest import TABLES

FOLDER = Path(__file__).parent / "golden"

ONLY_ON_DUCKDB_2 = (
    "outer_join_condition",
    "filter_below_join",
    "group_by_query",
)
"""Staged in forms that DuckDB 1.x refuses to plan."""


def statements() -> list[Path]:
    """All golden statements, by name."""
    return sorted(FOLDER.glob("*.sql"))


def plans_here(path: Path) -> bool:
    """Whether this version of DuckDB can run the plan of a statement."""
    return not (duckdb.__version__.startswith("1.") and path.stem in ONLY_ON_DUCKDB_2)


def open_connection() -> Connection:
    """A connection over the tables of the engine's tests."""
    connection = quackllm.connect(provider=FakeProvider(), progress=False)
    connection.execute(TABLES)
    return connection


def plan_of(connection: Connection, sql: str) -> str:
    """The plan of a statement as EXPLAIN prints it."""
    row = connection.execute("EXPLAIN " + sql).fetchone()
    assert row is not None
    return str(row[1]) + "\n"


def main() -> None:
    """Write the plan of every statement."""
    with open_connection() as connection:
        for path in statements():
            path.with_suffix(".plan").write_text(plan_of(connection, path.read_text()))


if __name__ == "__main__":
    main()
