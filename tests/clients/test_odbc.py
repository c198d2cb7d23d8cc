"""pyodbc over psqlODBC: values, parameters, catalog functions, transactions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.clients.values import TEXTS
from tests.server.pgwire.running import Running

pytestmark = pytest.mark.clients

pyodbc = pytest.importorskip("pyodbc", reason="pyodbc or unixODBC is not installed (make clients)")
if "PostgreSQL Unicode" not in pyodbc.drivers():
    pytest.skip("psqlODBC is not installed (make clients as root)", allow_module_level=True)


@pytest.fixture
def odbc(served: Running) -> Iterator[Any]:
    options = f"Server=127.0.0.1;Port={served.port};Database=shop;Uid=tester;Pwd=x"
    connection = pyodbc.connect(
        f"Driver={{PostgreSQL Unicode}};{options}", autocommit=True, timeout=30
    )
    yield connection
    connection.close()


def as_text(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


# psqlODBC shows truth as 1 and 0, and reads braces as escapes of ODBC's own.
SAME = [pair for pair in TEXTS if pair[0] not in ("true", "false") and pair[0][:1] != "{"]
SAME = [pair for pair in SAME if not pair[0].startswith("MAP")]


@pytest.mark.parametrize(("sql", "text"), SAME, ids=[sql[:40] for sql, _ in SAME])
def test_a_value_arrives(odbc: Any, sql: str, text: str) -> None:
    found = as_text(odbc.execute(f"SELECT {sql}").fetchone()[0])
    assert found.lower() == text.lower()


PARAMETERS = [
    ("INTEGER", 5), ("BIGINT", 2**40), ("VARCHAR", "it's é"), ("VARCHAR", ""), ("DOUBLE", 0.5),
    ("DECIMAL(10, 2)", Decimal("-1.50")), ("DATE", dt.date(2024, 1, 2)), ("TIMESTAMP", dt.datetime(2024, 1, 2, 3, 4, 5)),
    ("TIME", dt.time(1, 2, 3)), ("INTEGER", None), ("VARCHAR", "x" * 5000),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"), PARAMETERS, ids=[f"{k}-{v!r}"[:30] for k, v in PARAMETERS]
)
def test_a_parameter_arrives(odbc: Any, kind: str, value: Any) -> None:
    assert odbc.execute(f"SELECT CAST(? AS {kind})", value).fetchone()[0] == value


def test_the_catalog_functions_tell_what_is_there(odbc: Any) -> None:
    cursor = odbc.cursor()
    assert {row[2] for row in cursor.tables().fetchall()} >= {"movies", "reviews", "cheap"}
    assert [row[3] for row in cursor.columns(table="movies").fetchall()][:3] == [
        "id",
        "title",
        "synopsis",
    ]
    assert [row[3] for row in cursor.primaryKeys("movies").fetchall()] == ["id"]
    assert [row[7] for row in cursor.foreignKeys("movies").fetchall()] == ["movie_id"]
    assert "reviews_of_movie" in [row[5] for row in cursor.statistics("reviews").fetchall()]
    assert len(cursor.getTypeInfo().fetchall()) > 10
    assert odbc.getinfo(pyodbc.SQL_DBMS_NAME) == "PostgreSQL"


def test_rows_are_stored_counted_and_rolled_back(odbc: Any) -> None:
    cursor = odbc.cursor()
    cursor.execute("CREATE TEMP TABLE kept (id INTEGER, name VARCHAR)")
    assert cursor.execute("INSERT INTO kept VALUES (?, ?)", 1, "a").rowcount == 1
    cursor.executemany("INSERT INTO kept VALUES (?, ?)", [(i, "b") for i in range(2, 12)])
    assert cursor.execute("UPDATE kept SET name = ? WHERE id > ?", "c", 9).rowcount == 2
    odbc.autocommit = False
    cursor.execute("DELETE FROM kept")
    odbc.rollback()
    assert cursor.execute("SELECT count(*) FROM kept").fetchone()[0] == 11
    odbc.commit()


def test_an_error_has_its_state_and_the_transaction_goes_on(odbc: Any) -> None:
    odbc.autocommit = False
    with pytest.raises(pyodbc.Error) as caught:
        odbc.execute("SELECT nope FROM movies")
    assert caught.value.args[0] == "42703"
    assert odbc.execute("SELECT 1").fetchone()[0] == 1
    odbc.commit()


def test_a_large_result_and_a_prompt(odbc: Any) -> None:
    assert len(odbc.execute("SELECT i, 'x' || i FROM range(50000) r(i)").fetchall()) == 50000
    found = odbc.execute(
        "SELECT LLM_FILTER(?, title) FROM movies WHERE id < 3", "By ODBC?"
    ).fetchall()
    assert len(found) == 3
