"""Count the checks of each client: python -m tools.client_checks

Prints the table of docs/clients/README.md, which the tests compare with what pytest collects.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("psql 15", ("tests/clients/test_psql.py", "tests/clients/test_bad_input.py")),
    ("psycopg 3", ("tests/clients/test_psycopg.py",)),
    ("asyncpg", ("tests/clients/test_asyncpg.py",)),
    ("SQLAlchemy, through the server", ("tests/clients/test_sqlalchemy.py",)),
    (
        "SQLAlchemy, in the process",
        ("tests/clients/test_sqlalchemy_in_process.py", "tests/server/test_sqlalchemy_dialect.py"),
    ),
    ("pyodbc over psqlODBC", ("tests/clients/test_odbc.py",)),
    ("JDBC (pgjdbc 42.5)", ("tests/clients/test_jdbc.py",)),
    ("ADBC (`adbc-driver-flightsql`)", ("tests/clients/test_adbc.py",)),
    ("DuckDB's shell 1.5.5, through the server", ("tests/clients/test_duckdb_shell.py",)),
    (
        "DuckDB's shell 1.5.5, with the extension",
        (
            "tests/clients/test_duckdb_extension.py",
            "tests/clients/test_duckdb_extension_faults.py",
        ),
    ),
)
"""What a client is called, and the files of its checks."""


def collected(files: Iterable[str]) -> Counter[str]:
    """Return how many tests pytest finds in each file; 0 where the client is not installed."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    # With -qq, a line is 'path: count'.
    pairs = (line.rsplit(": ", 1) for line in done.stdout.splitlines() if ".py: " in line)
    return Counter({path: int(count) for path, count in pairs if count.isdigit()})


def table() -> str:
    """Return the counts as a table of Markdown."""
    counts = collected(file for _, files in FAMILIES for file in files)
    lines = ["| client | checks | in |", "|---|---|---|"]
    for name, files in FAMILIES:
        where = ", ".join(f"`{file}`" for file in files)
        lines.append(f"| {name} | {sum(counts[file] for file in files)} | {where} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
