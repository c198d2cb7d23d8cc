"""How fast rows reach clients, and how long a statement takes that has one.

    python -m benchmarks.wire.rows

The server is a process of its own; a client that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psycopg

ROWS = 1_000_000
QUERY = (
    "SELECT i, i * 1.5::DOUBLE AS x, 'text number ' || i AS t, "
    "DATE '2020-01-01' + (i % 1000)::INTEGER AS d, "
    f"(i % 97)::DECIMAL(10, 2) AS n FROM range({ROWS}) r(i)"
)  # fmt: skip


def best(work: Callable[[], object], rounds: int = 3) -> float:
    """Least seconds of some rounds."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def started() -> tuple[subprocess.Popen[str], int, int]:
    """Start a server; return its process, its port and that of Flight SQL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "quackllm", "serve", "--port", "0", "--flight", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    ports = [int(process.stderr.readline().rsplit(":", 1)[1]) for _ in range(2)]
    return process, ports[0], ports[1]


def main() -> None:
    """Measure and print."""
    process, port, flight_port = started()
    try:
        print(f"load average {os.getloadavg()[0]:.1f}; best of 3")
        measure(port)
        if importlib.util.find_spec("adbc_driver_flightsql"):
            adbc(flight_port)
    finally:
        process.terminate()
        process.wait()


def measure(port: int) -> None:
    """Measure every client that there is."""
    dsn = f"host=127.0.0.1 port={port} user=bench dbname=memory"
    with psycopg.connect(dsn, autocommit=True) as connection:
        times = []
        for _ in range(300):
            begun = time.perf_counter()
            connection.execute("SELECT 1").fetchall()
            times.append(time.perf_counter() - begun)
        print(f"SELECT 1, psycopg: {statistics.median(times) * 1e3:.2f} ms (median of 300)")
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            seconds = best(lambda c=cursor: c.execute(QUERY) and c.fetchall())  # type: ignore[misc]
            print(f"1M x 5, psycopg {'binary' if binary else 'text'}: {seconds:.2f} s")
    if shutil.which("psql"):
        command = ["psql", dsn, "-X", "-A", "-t", "-o", os.devnull, "-c", QUERY]
        print(f"1M x 5, psql: {best(lambda: subprocess.run(command, check=True)):.2f} s")
    if importlib.util.find_spec("pyodbc"):
        odbc(port)


def odbc(port: int) -> None:
    """Measure pyodbc over psqlODBC."""
    import pyodbc

    options = f"Server=127.0.0.1;Port={port};Database=memory;Uid=bench;Pwd=x"
    connection = pyodbc.connect(f"Driver={{PostgreSQL Unicode}};{options}", autocommit=True)
    cursor = connection.cursor()
    print(f"1M x 5, pyodbc: {best(lambda: cursor.execute(QUERY).fetchall()):.2f} s")
    connection.close()


def adbc(port: int) -> None:
    """Measure ADBC over Flight SQL."""
    import adbc_driver_flightsql.dbapi as flightsql

    address = f"grpc+tcp://127.0.0.1:{port}"
    with flightsql.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        seconds = best(lambda: cursor.execute(QUERY).fetch_arrow_table())
        print(f"1M x 5, ADBC: {seconds:.2f} s")


if __name__ == "__main__":
    main()
