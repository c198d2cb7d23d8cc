"""pyodbc over psqlODBC: values, parameters, catalog functions, cursors, transactions, errors."""

from __future__ import annotations

import datetime as dt
import math
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from quackllm.testing import FakeProvider, FakeServer
from tests.clients.serving import served as serving
from tests.clients.values import TEXTS
from tests.server.pgwire.running import Running, running
from tests.server.pgwire.test_calls import wait_until

pytestmark = pytest.mark.clients

pyodbc = pytest.importorskip("pyodbc", reason="pyodbc or unixODBC is not installed (make clients)")
if "PostgreSQL Unicode" not in pyodbc.drivers():
    pytest.skip("psqlODBC is not installed (make clients as root)", allow_module_level=True)


def connect(port: int, autocommit: bool = True, **options: str) -> Any:
    given = {"Server": "127.0.0.1", "Port": str(port), "Database": "shop", "Uid": "tester"}
    words = ";".join(f"{key}={value}" for key, value in (given | {"Pwd": "x"} | options).items())
    return pyodbc.connect(f"Driver={{PostgreSQL Unicode}};{words}", autocommit=autocommit)


@pytest.fixture
def odbc(served: Running) -> Iterator[Any]:
    connection = connect(served.port)
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


OF_PYTHON: list[tuple[str, Any]] = [
    ("true", "1"),
    ("9223372036854775807::BIGINT", 2**63 - 1),
    ("170141183460469231731687303715884105727::HUGEINT", Decimal(2**127 - 1)),
    ("1.5::FLOAT", 1.5),
    ("0.1::DOUBLE", 0.1),
    ("'-inf'::DOUBLE", -math.inf),
    ("3.14::DECIMAL(5, 2)", Decimal("3.14")),
    ("'\\x00\\xFF'::BLOB", b"\x00\xff"),
    ("DATE '2024-02-29'", dt.date(2024, 2, 29)),
    ("TIME '01:02:03'", dt.time(1, 2, 3)),
    ("TIMESTAMP '2024-01-02 03:04:05.123456'", dt.datetime(2024, 1, 2, 3, 4, 5, 123456)),
    ("'2024-01-02 03:04:05+00'::TIMESTAMPTZ", dt.datetime(2024, 1, 2, 3, 4, 5)),
    ("INTERVAL '1 day 2 hours'", "1 day 02:00:00"),
    ("struct_pack(a := 1, b := [1])", '{"a":1,"b":[1]}'),
    ("MAP(['k'], [1])", '{"k":1}'),
    ("'a' || chr(10) || 'b'", "a\nb"),
    ("repeat('é', 100000)", "é" * 100000),
    ("NULL::INTEGER", None),
    ("NULL::DATE", None),
]


@pytest.mark.parametrize(("sql", "value"), OF_PYTHON, ids=[sql[:40] for sql, _ in OF_PYTHON])
def test_a_value_is_of_its_type_in_python(odbc: Any, sql: str, value: Any) -> None:
    found = odbc.execute(f"SELECT {sql}").fetchone()[0]
    assert (type(found), found) == (type(value), value)


PARAMETERS = [
    ("INTEGER", 5), ("BIGINT", 2**40), ("VARCHAR", "it's é"), ("VARCHAR", ""), ("DOUBLE", 0.5),
    ("DECIMAL(10, 2)", Decimal("-1.50")), ("DATE", dt.date(2024, 1, 2)), ("TIMESTAMP", dt.datetime(2024, 1, 2, 3, 4, 5)),
    ("TIME", dt.time(1, 2, 3)), ("INTEGER", None), ("VARCHAR", "x" * 5000), ("BLOB", b"\x00\xff"),
    ("VARCHAR", "😀 \\ ? $1 %s"), ("HUGEINT", Decimal(2**100)), ("DOUBLE", 1e300), ("INTEGER", -(2**31)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"), PARAMETERS, ids=[f"{k}-{v!r}"[:30] for k, v in PARAMETERS]
)
def test_a_parameter_arrives(odbc: Any, kind: str, value: Any) -> None:
    assert odbc.execute(f"SELECT CAST(? AS {kind})", value).fetchone()[0] == value


@pytest.mark.parametrize(
    ("sql", "values", "found"),
    [
        ("SELECT title FROM movies WHERE id = ?", (3,), "Movie 3"),
        ("SELECT count(*) FROM movies WHERE released > ?", (dt.date(2020, 1, 10),), 10),
        ("SELECT count(*) FROM movies WHERE title LIKE ? AND title <> '?'", ("Movie 1%",), 11),
        ("SELECT id FROM movies ORDER BY id LIMIT ? OFFSET ?", (1, 7), 7),
        ("SELECT count(*) FROM movies WHERE price BETWEEN ? AND ?", (Decimal("1"), 2.0), 5),
    ],
)
def test_a_parameter_has_the_type_of_its_place(
    odbc: Any, sql: str, values: tuple[Any, ...], found: Any
) -> None:
    assert odbc.execute(sql, values).fetchone()[0] == found


Catalog = Callable[[Any], Any]

CATALOG: list[tuple[str, Catalog, Any]] = [
    (
        "SQLTables",
        lambda c: [tuple(row)[:4] for row in c.tables()],
        [("shop", "main", "cheap", "VIEW"), ("shop", "main", "movies", "TABLE"), ("shop", "main", "reviews", "TABLE")],
    ),
    ("SQLTables of a type", lambda c: [r.table_name for r in c.tables(tableType="VIEW")], ["cheap"]),
    ("SQLTables by pattern", lambda c: [r.table_name for r in c.tables(table="rev%")], ["reviews"]),
    ("SQLTables of no schema", lambda c: c.tables(schema="public").fetchall(), []),
    ("catalogs", lambda c: [r[0] for r in c.tables(catalog="%", schema="", table="")], ["shop"]),
    ("schemas", lambda c: [r[1] for r in c.tables(catalog="", schema="%", table="")], ["main", "public"]),
    (
        "SQLColumns",
        lambda c: [(r.column_name, r.type_name, r.data_type) for r in c.columns(table="movies")],
        [
            ("id", "int4", 4), ("title", "text", -10), ("synopsis", "text", -10),
            ("price", "numeric", 2), ("released", "date", 91), ("tags", "_text", -9),
        ],
    ),
    ("nullable", lambda c: [r.nullable for r in c.columns(table="movies")], [0, 0, 1, 1, 1, 1]),
    ("ordinal", lambda c: [r.ordinal_position for r in c.columns(table="movies")], [1, 2, 3, 4, 5, 6]),
    (
        "precision, scale and default",
        lambda c: [(r.column_size, r.decimal_digits, r.column_def) for r in c.columns(table="movies", column="price")],
        [(10, 2, "1.5")],
    ),
    ("SQLColumns of a view", lambda c: [r.column_name for r in c.columns(table="cheap")], ["id", "title"]),
    ("SQLColumns by pattern", lambda c: [r.column_name for r in c.columns(table="movies", column="t%")], ["title", "tags"]),
    ("SQLColumns of nothing", lambda c: c.columns(table="nowhere").fetchall(), []),
    ("SQLPrimaryKeys", lambda c: [tuple(r) for r in c.primaryKeys("movies")], [("shop", "main", "movies", "id", 1, "movies_id_pkey")]),
    ("SQLPrimaryKeys of a view", lambda c: c.primaryKeys("cheap").fetchall(), []),
    (
        "SQLForeignKeys to a table",
        lambda c: [(r[2], r[3], r[6], r[7]) for r in c.foreignKeys("movies")],
        [("movies", "id", "reviews", "movie_id")],
    ),
    (
        "SQLForeignKeys of a table",
        lambda c: [(r[2], r[3], r[6], r[7]) for r in c.foreignKeys(foreignTable="reviews")],
        [("movies", "id", "reviews", "movie_id")],
    ),
    (
        "SQLStatistics",
        lambda c: [(r[3], r[5], r[8]) for r in c.statistics("reviews")],
        [(0, "reviews_id_pkey", "id"), (1, "reviews_of_movie", "movie_id")],
    ),
    ("SQLStatistics of keys", lambda c: [r[5] for r in c.statistics("reviews", unique=True)], ["reviews_id_pkey"]),
    ("SQLGetTypeInfo", lambda c: {"int4", "text", "numeric", "timestamptz", "uuid"} - {r[0] for r in c.getTypeInfo()}, set()),
    ("SQLGetTypeInfo of one", lambda c: [r[0] for r in c.getTypeInfo(pyodbc.SQL_INTEGER)], ["int4"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "ask", "found"), CATALOG, ids=[name for name, _, _ in CATALOG])
def test_the_catalog_function_tells(odbc: Any, name: str, ask: Catalog, found: Any) -> None:
    assert ask(odbc.cursor()) == found


INFO = [
    ("SQL_DBMS_NAME", "PostgreSQL"), ("SQL_DBMS_VER", "15.0.0"), ("SQL_DATABASE_NAME", "shop"),
    ("SQL_USER_NAME", "tester"), ("SQL_IDENTIFIER_QUOTE_CHAR", '"'), ("SQL_MAX_IDENTIFIER_LEN", 63),
    ("SQL_DATA_SOURCE_READ_ONLY", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "found"), INFO)
def test_the_driver_says_of_the_server(odbc: Any, name: str, found: Any) -> None:
    assert odbc.getinfo(getattr(pyodbc, name)) == found


def test_a_result_is_described(odbc: Any) -> None:
    cursor = odbc.execute("SELECT id, title, price, released, 0.5::DOUBLE AS d FROM movies LIMIT 0")
    assert [(name, kind) for name, kind, *_ in cursor.description] == [
        ("id", int),
        ("title", str),
        ("price", Decimal),
        ("released", dt.date),
        ("d", float),
    ]
    assert cursor.description[2][4:6] == (10, 2)


def test_rows_are_fetched_in_pieces_and_passed_over(odbc: Any) -> None:
    cursor = odbc.execute("SELECT i FROM range(10) r(i)")
    assert cursor.rowcount == 10
    cursor.skip(3)
    assert cursor.fetchone()[0] == 3
    assert [row.i for row in cursor.fetchmany(2)] == [4, 5]
    assert cursor.fetchval() == 6
    assert len(cursor.fetchall()) == 3
    assert cursor.fetchone() is None


def test_several_statements_have_several_results(odbc: Any) -> None:
    cursor = odbc.execute("SELECT 1; SELECT 'x', 2")
    assert [tuple(row) for row in cursor.fetchall()] == [(1,)]
    assert cursor.nextset()
    assert [tuple(row) for row in cursor.fetchall()] == [("x", 2)]
    assert not cursor.nextset()


def test_a_cursor_of_the_server_fetches_in_pieces(served: Running) -> None:
    """The driver sends DECLARE and FETCH then; the question is asked once for all pieces."""
    connection = connect(served.port, UseDeclareFetch="1", Fetch="7")
    assert sum(row[0] for row in connection.execute("SELECT i FROM range(1000) r(i)")) == 499500
    before = served.fake.calls
    asked = connection.execute("SELECT LLM('Declared by ODBC', title) FROM movies")
    assert len(asked.fetchall()) == 20
    assert served.fake.calls == before + 20
    connection.close()


def test_a_large_result_and_a_prompt(odbc: Any) -> None:
    assert len(odbc.execute("SELECT i, 'x' || i FROM range(50000) r(i)").fetchall()) == 50000
    cursor = odbc.execute("SELECT LLM_FILTER(?, title) FROM movies WHERE id < 3", "By ODBC?")
    assert {row[0] for row in cursor.fetchall()} <= {"0", "1"}
    assert "3 calls" in cursor.messages[0][1]


def test_no_catalog_function_calls_a_model(served: Running, odbc: Any) -> None:
    cursor = odbc.cursor()
    cursor.execute("CREATE VIEW asked AS SELECT id, LLM_FILTER('Odd?', title) AS f FROM movies")
    before = served.fake.calls
    assert [row.column_name for row in cursor.columns(table="asked")] == ["id", "f"]
    assert cursor.execute("SELECT * FROM asked LIMIT 0").description[1][0] == "f"
    assert served.fake.calls == before
    cursor.execute("DROP VIEW asked")


def test_rows_are_stored_counted_and_changed(odbc: Any) -> None:
    cursor = odbc.cursor()
    cursor.execute("CREATE TEMP TABLE kept (id INTEGER, name VARCHAR)")
    assert cursor.execute("INSERT INTO kept VALUES (?, ?)", 1, "a").rowcount == 1
    cursor.executemany("INSERT INTO kept VALUES (?, ?)", [(i, "b") for i in range(2, 12)])
    assert cursor.execute("UPDATE kept SET name = ? WHERE id > ?", "c", 9).rowcount == 2
    returned = cursor.execute("DELETE FROM kept WHERE id = 1 RETURNING name").fetchall()
    assert [tuple(row) for row in returned] == [("a",)]
    assert cursor.execute("SELECT count(*) FROM kept").fetchval() == 10


@pytest.fixture
def manual(served: Running) -> Iterator[Any]:
    connection = connect(served.port, autocommit=False)
    yield connection
    connection.close()


def test_a_transaction_is_kept_or_lost_and_others_do_not_see_it(odbc: Any, manual: Any) -> None:
    manual.execute("CREATE TABLE in_doubt (a INTEGER)")
    with pytest.raises(pyodbc.ProgrammingError):
        odbc.execute("SELECT * FROM in_doubt")
    manual.rollback()
    with pytest.raises(pyodbc.ProgrammingError):
        manual.execute("SELECT * FROM in_doubt")
    manual.rollback()
    with manual:
        manual.execute("CREATE TABLE in_doubt (a INTEGER)")
    assert odbc.execute("SELECT count(*) FROM in_doubt").fetchval() == 0
    odbc.execute("DROP TABLE in_doubt")


def test_a_statement_that_fails_does_not_end_the_transaction(manual: Any) -> None:
    """The driver puts a savepoint before each statement and goes back to it."""
    with pytest.raises(pyodbc.Error) as caught:
        manual.execute("SELECT nope FROM movies")
    assert caught.value.args[0] == "42703"
    assert manual.execute("SELECT 1").fetchval() == 1
    manual.commit()


ERRORS = [
    ("SELECT nope FROM movies", "ProgrammingError", "42703"),
    ("SELECT * FROM nowhere", "ProgrammingError", "42P01"),
    ("SELEC 1", "ProgrammingError", "42601"),
    ("SELECT nofunction(1)", "ProgrammingError", "42883"),
    ("SELECT 'x'::INTEGER", "DataError", "22P02"),
    ("SELECT 300::TINYINT", "DataError", "22003"),
    ("INSERT INTO movies (id, title) VALUES (1, 'x')", "IntegrityError", "23505"),
    ("INSERT INTO movies (id) VALUES (99)", "IntegrityError", "23502"),
    ("CREATE TABLE movies (a INTEGER)", "ProgrammingError", "42P07"),
    ("SELECT LLM_FILTER('x', nope) FROM movies", "ProgrammingError", "42703"),
]


@pytest.mark.parametrize(("sql", "kind", "state"), ERRORS, ids=[state for _, _, state in ERRORS])
def test_an_error_has_its_class_and_its_state(odbc: Any, sql: str, kind: str, state: str) -> None:
    with pytest.raises(getattr(pyodbc, kind)) as caught:
        odbc.execute(sql).fetchall()
    assert caught.value.args[0] == state
    assert odbc.execute("SELECT 42").fetchval() == 42


def test_a_parameter_of_wrong_type_is_named(odbc: Any) -> None:
    with pytest.raises(pyodbc.DataError, match=r"'x' for parameter \$1 is no INTEGER") as caught:
        odbc.execute("SELECT CAST(? AS INTEGER)", "x")
    assert caught.value.args[0] == "22P02"


def test_an_unknown_database_is_refused_with_the_names_there_are(served: Running) -> None:
    with pytest.raises(pyodbc.OperationalError, match="This server has other, shop"):
        connect(served.port, Database="nope")


def test_cancel_frees_the_model_and_the_connection_goes_on() -> None:
    with running(fake=FakeProvider(latency=60.0)) as served:
        connection = connect(served.port)
        cursor = connection.cursor()
        failed: list[str] = []

        def ask() -> None:
            try:
                cursor.execute("SELECT LLM_FILTER('Is it odd?', title) FROM movies")
            except pyodbc.Error as error:
                failed.append(error.args[0])

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: served.fake.in_flight)
        cursor.cancel()
        assert wait_until(lambda: not served.fake.in_flight) < 1
        thread.join(10)
        assert failed == ["57014"]
        assert connection.execute("SELECT 42").fetchval() == 42
        connection.close()


def test_arrays_of_parameters_are_sent_at_once(tmp_path: Path) -> None:
    """The driver holds the interpreter meanwhile, so the server is another process."""
    with FakeServer() as model, serving(model, tmp_path) as address:
        connection = connect(int(address.rsplit(":", 1)[1]))
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE many (a INTEGER, b VARCHAR)")
        cursor.fast_executemany = True
        cursor.executemany("INSERT INTO many VALUES (?, ?)", [(i, "x" * i) for i in range(100)])
        found = cursor.execute("SELECT count(*), sum(length(b)) FROM many").fetchone()
        assert tuple(found) == (100, 4950)
        connection.close()
