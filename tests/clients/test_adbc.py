"""ADBC over Flight SQL, with the driver's own DBAPI: values, parameters, changes, metadata."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import math
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from quackllm.server.flight import sessions
from quackllm.server.pgwire.roles import Role
from quackllm.server.pgwire.scram import verifier_of
from quackllm.testing import FakeProvider
from tests.server.flight.running import Flying, flying

pytestmark = [
    pytest.mark.clients,
    # The driver closes again, when it is collected, what it could not close without a server.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

dbapi: Any = pytest.importorskip(
    "adbc_driver_flightsql.dbapi", reason="the ADBC driver is not installed (make clients)"
)
QUESTION = "SELECT id, LLM_FILTER('Is it odd?', synopsis) AS odd FROM movies"


@pytest.fixture(scope="module")
def served() -> Iterator[Flying]:
    with flying() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """What the driver says when it is collected is not for the tests of another module."""
    yield
    gc.collect()


def connect(served: Flying, **options: str) -> Any:
    """Connect; every statement commits."""
    return dbapi.connect(served.address, db_kwargs=options, autocommit=True)


@contextmanager
def cursor_of(served: Flying, **options: str) -> Iterator[Any]:
    """Connect for one cursor; both are closed at the end, also by an error."""
    with connect(served, **options) as connection, connection.cursor() as cursor:
        yield cursor


def login(user: str, password: str) -> dict[str, str]:
    return {"username": user, "password": password}


@pytest.fixture
def adbc(served: Flying) -> Iterator[Any]:
    with cursor_of(served) as cursor:
        yield cursor


VALUES: list[tuple[str, Any, str]] = [
    ("true", True, "bool"),
    ("1::TINYINT", 1, "int8"),
    ("255::UTINYINT", 255, "uint8"),
    ("(-3)::SMALLINT", -3, "int16"),
    ("65535::USMALLINT", 65535, "uint16"),
    ("5", 5, "int32"),
    ("4294967295::UINTEGER", 4294967295, "uint32"),
    ("(-9223372036854775807)::BIGINT", -9223372036854775807, "int64"),
    ("18446744073709551615::UBIGINT", 18446744073709551615, "uint64"),
    ("1000000000000000000000000000000::HUGEINT", Decimal(10**30), "decimal128(38, 0)"),
    ("340282366920938463463374607431768211455::UHUGEINT", str(2**128 - 1), "string"),
    ("123456789012345678901234567890::BIGNUM", "123456789012345678901234567890", "string"),
    ("1.5::FLOAT", 1.5, "float"),
    ("0.1::DOUBLE", 0.1, "double"),
    ("'inf'::DOUBLE", math.inf, "double"),
    ("-0.001::DECIMAL(18, 3)", Decimal("-0.001"), "decimal128(18, 3)"),
    ("12345678901234567890.12345::DECIMAL(38, 5)", Decimal("12345678901234567890.12345"), "decimal128(38, 5)"),
    ("'héllo 😀'", "héllo 😀", "string"),
    ("''", "", "string"),
    ("'\\x00\\xFF'::BLOB", b"\x00\xff", "binary"),
    ("DATE '1969-12-31'", dt.date(1969, 12, 31), "date32[day]"),
    ("TIME '01:02:03.5'", dt.time(1, 2, 3, 500000), "time64[us]"),
    ("'01:02:03+02'::TIMETZ", "01:02:03+02", "string"),
    ("TIMESTAMP '2024-01-02 03:04:05.678'", dt.datetime(2024, 1, 2, 3, 4, 5, 678000), "timestamp[us]"),
    ("'2024-01-02'::TIMESTAMP_S", dt.datetime(2024, 1, 2), "timestamp[s]"),
    ("'2024-01-02'::TIMESTAMP_MS", dt.datetime(2024, 1, 2), "timestamp[ms]"),
    ("INTERVAL '1 month 2 days'", pa.MonthDayNano([1, 2, 0]), "month_day_nano_interval"),
    ("'12345678-1234-1234-1234-123456789012'::UUID", "12345678-1234-1234-1234-123456789012", "string"),
    ("'101'::BIT", "101", "string"),
    ("'a'::ENUM ('a', 'b')", "a", "string"),
    ("{'e': ['a'::ENUM ('a', 'b')]}", {"e": ["a"]}, "struct"),
    ("[1, 2, NULL]", [1, 2, None], "list"),
    ("['1'::BIT, NULL]", ["1", None], "list"),
    ("[[1], [2, 3]]", [[1], [2, 3]], "list"),
    ("array_value(1, 2)", [1, 2], "fixed_size_list"),
    ("{'a': 1, 'b': [1, NULL]}", {"a": 1, "b": [1, None]}, "struct"),
    ("{'a': 5::UHUGEINT, 'q\"x': MAP {'k': 1::UHUGEINT}}", {"a": "5", 'q"x': [("k", "1")]}, "struct"),
    ("MAP {'k': 1}", [("k", 1)], "map"),
    ("union_value(num := 2)", 2, "sparse_union"),
    ("'{\"a\": [1]}'::JSON", '{"a": [1]}', "string"),
    ("CAST(NULL AS DECIMAL(5, 2))", None, "decimal128(5, 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "value", "kind"), VALUES, ids=[v[0][:40] for v in VALUES])
def test_a_value_arrives_and_was_described(adbc: Any, sql: str, value: Any, kind: str) -> None:
    query = f"SELECT {sql} AS x"
    described = adbc.adbc_execute_schema(query)
    table = adbc.execute(query).fetch_arrow_table()
    assert table.schema == described
    assert str(table.schema.field("x").type).startswith(kind)
    assert table.column("x").to_pylist() == [value]


PARAMETERS: list[tuple[str, Any]] = [
    ("INTEGER", 5), ("BIGINT", 2**40), ("VARCHAR", "it's é"), ("VARCHAR", ""), ("BOOLEAN", True),
    ("DOUBLE", 0.5), ("DOUBLE", math.inf), ("DECIMAL(10, 2)", Decimal("-1.50")), ("BLOB", b"\x00a"),
    ("DATE", dt.date(2024, 1, 2)), ("TIMESTAMP", dt.datetime(2024, 1, 2, 3, 4, 5, 6)),
    ("TIME", dt.time(1, 2, 3)), ("INTEGER", None), ("VARCHAR", "x" * 5000), ("INTEGER[]", [1, None]),
    ("STRUCT(a BIGINT, b VARCHAR)", {"a": 1, "b": "it's"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"), PARAMETERS, ids=[f"{k}-{v!r}"[:30] for k, v in PARAMETERS]
)
def test_a_parameter_arrives(adbc: Any, kind: str, value: Any) -> None:
    assert adbc.execute(f"SELECT CAST(? AS {kind}) AS x", (value,)).fetchone() == (value,)


@pytest.mark.parametrize(
    ("sql", "values", "found"),
    [
        ("SELECT title FROM movies WHERE id = $1", (3,), "Movie 3"),
        ("SELECT $2 || $1", ("a", "b"), "ba"),
        ("SELECT abs(?)", (-5,), 5),
        ("SELECT ?::VARCHAR || '!'", (5,), "5!"),
        ("SELECT count(*) FROM movies WHERE title LIKE ? AND title <> '?'", ("Movie 1%",), 11),
        ("SELECT id FROM movies ORDER BY id LIMIT ? OFFSET ?", (1, 7), 7),
        ("SELECT LLM_FILTER(?, title) IS NOT NULL FROM movies WHERE id = ?", ("Is it?", 1), True),
    ],
)
def test_marks_of_both_kinds_have_their_values(
    adbc: Any, sql: str, values: tuple[Any, ...], found: Any
) -> None:
    assert adbc.execute(sql, values).fetchall()[0][0] == found


def test_types_of_parameters_follow_from_their_places(adbc: Any) -> None:
    schema = adbc.adbc_prepare("SELECT * FROM movies WHERE id = ? AND released > ?")
    assert [str(field.type) for field in schema] == ["int32", "date32[day]"]


ERRORS: list[tuple[str, str]] = [
    ("SELECT nope FROM movies", "SQLSTATE 42703, position 8"),
    ("SELECT * FROM nowhere", "SQLSTATE 42P01"),
    ("SELEC 1", "SQLSTATE 42601"),
    ("SELECT 'x'::INTEGER", "SQLSTATE 22P02"),
    ("INSERT INTO movies (id, title) VALUES (1, 'x')", "SQLSTATE 23505"),
    ("SELECT 1; SELECT 2", "SQLSTATE 42601"),
    ("COPY movies FROM STDIN", "adbc_ingest"),
    ("BEGIN", "begun and ended by the driver"),
    ("SELECT LLM_FILTER('x', nope) FROM movies", "nope"),
    ("SELECT LLM_FILTER('x', title, nope := 1) FROM movies", "nope"),
]


@pytest.mark.parametrize(("sql", "says"), ERRORS, ids=[sql[:40] for sql, _ in ERRORS])
def test_an_error_says_what_was_wrong_and_the_session_goes_on(
    adbc: Any, sql: str, says: str
) -> None:
    with pytest.raises(dbapi.Error) as caught:
        adbc.execute(sql).fetchall()
    assert says in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert adbc.execute("SELECT 42").fetchone() == (42,)


@pytest.mark.parametrize(
    ("values", "says"),
    [((), "supplies 0 parameters"), ((1, 2), "supplies 2 parameters"), (("a\0b",), "NUL")],
)
def test_wrong_parameters_are_an_error(adbc: Any, values: tuple[Any, ...], says: str) -> None:
    with pytest.raises(dbapi.Error, match=says):
        adbc.execute("SELECT ?", values)


def test_changes_are_counted_and_many_rows_are_one_change(adbc: Any) -> None:
    adbc.execute("CREATE TEMP TABLE kept (id INTEGER PRIMARY KEY, name VARCHAR)")
    assert adbc.execute("INSERT INTO kept VALUES (?, ?)", (1, "a")).rowcount == 1
    adbc.executemany("INSERT INTO kept VALUES (?, ?)", [(i, "b") for i in range(2, 12)])
    assert adbc.rowcount == 10
    assert adbc.execute("UPDATE kept SET name = 'c' WHERE id > 9").rowcount == 2
    with pytest.raises(dbapi.Error, match="23505"):
        adbc.executemany("INSERT INTO kept VALUES (?, ?)", [(50, "x"), (1, "again")])
    assert adbc.execute("SELECT count(*), max(id) FROM kept").fetchone() == (11, 11)
    assert adbc.execute("DELETE FROM kept WHERE id = 1 RETURNING name").fetchall() == [("a",)]


def test_a_transaction_is_kept_or_lost_and_others_do_not_see_it(served: Flying, adbc: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the driver warns where there are no transactions
        connection = dbapi.connect(served.address)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE in_doubt (a INTEGER)")
        cursor.execute("INSERT INTO in_doubt VALUES (1)")
        assert "in_doubt" in str(connection.adbc_get_objects().read_all())
        with pytest.raises(dbapi.Error, match="in_doubt"):
            adbc.execute("SELECT * FROM in_doubt")
        connection.rollback()
        with pytest.raises(dbapi.Error, match="in_doubt"):
            cursor.execute("SELECT * FROM in_doubt")
        connection.rollback()
        cursor.execute("CREATE TABLE in_doubt (a INTEGER)")
        connection.commit()
        assert adbc.execute("SELECT count(*) FROM in_doubt").fetchone() == (0,)
        for _ in range(2):  # the same statement in the next transaction
            cursor.execute("INSERT INTO in_doubt VALUES (2)")
            connection.commit()
        assert adbc.execute("SELECT count(*) FROM in_doubt").fetchone() == (2,)
        adbc.execute("DROP TABLE in_doubt")


def test_a_failed_transaction_cannot_be_committed(served: Flying) -> None:
    with dbapi.connect(served.address) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE lost (a INTEGER)")
        with pytest.raises(dbapi.Error):
            cursor.execute("INSERT INTO lost VALUES ('x')")
        with pytest.raises(dbapi.Error, match="25P02"):
            cursor.execute("SELECT 1")
        with pytest.raises(dbapi.Error, match="rolled back"):
            connection.commit()
    with cursor_of(served) as cursor, pytest.raises(dbapi.Error, match="42P01"):
        cursor.execute("SELECT * FROM lost")


ROWS = pa.table({"id": pa.array(range(2500), pa.int64()), "name": [f"n{i}" for i in range(2500)]})


@pytest.mark.parametrize("mode", ["create", "replace", "create_append"])
def test_rows_are_ingested_into_a_new_table(adbc: Any, mode: str) -> None:
    assert adbc.adbc_ingest(f"new_{mode}", ROWS, mode=mode) == 2500
    assert adbc.execute(f"SELECT sum(id), max(name) FROM new_{mode}").fetchone() == (
        Decimal(3123750),
        "n999",
    )


def test_rows_are_appended_by_name_and_replaced(adbc: Any) -> None:
    adbc.execute("CREATE TABLE grows (name VARCHAR, id BIGINT)")
    adbc.adbc_ingest("grows", ROWS, mode="append")
    adbc.adbc_ingest("grows", ROWS.to_reader(100), mode="create_append")
    assert adbc.execute("SELECT count(*), min(name) FROM grows").fetchone() == (5000, "n0")
    adbc.adbc_ingest("grows", ROWS.slice(0, 3), mode="replace")
    assert adbc.execute("SELECT count(*) FROM grows").fetchone() == (3,)
    with pytest.raises(dbapi.Error, match="already exists"):
        adbc.adbc_ingest("grows", ROWS, mode="create")
    with pytest.raises(dbapi.Error, match="nowhere"):
        adbc.adbc_ingest("nowhere", ROWS, mode="append")
    adbc.adbc_ingest("only_here", ROWS, mode="create", temporary=True)
    assert adbc.execute("SELECT count(*) FROM only_here").fetchone() == (2500,)


def test_ingestion_belongs_to_its_transaction(served: Flying) -> None:
    with dbapi.connect(served.address) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("gone_again", ROWS)
        connection.rollback()
        with pytest.raises(dbapi.Error, match="gone_again"):
            cursor.execute("FROM gone_again")


def tables(adbc: Any, **filters: str) -> dict[str, dict[str, Any]]:
    [catalog] = adbc.connection.adbc_get_objects(depth="all", **filters).read_all().to_pylist()
    return {
        one["table_name"]: one
        for schema in catalog["catalog_db_schemas"]
        for one in schema["db_schema_tables"] or ()
    }


def test_objects_are_found_with_their_columns(adbc: Any) -> None:
    found = tables(adbc)
    assert {"movies", "reviews", "cheap"} <= set(found)
    assert found["cheap"]["table_type"] == "VIEW"
    columns = [column["column_name"] for column in found["movies"]["table_columns"]]
    assert columns == ["id", "title", "synopsis", "price", "released", "tags"]
    assert set(tables(adbc, table_name_filter="rev%")) == {"reviews"}
    assert set(tables(adbc, table_types_filter=["VIEW"])) == {"cheap"}  # type: ignore[arg-type]


def test_a_tables_schema_says_types_and_nulls(adbc: Any) -> None:
    schema = adbc.connection.adbc_get_table_schema("movies")
    assert [str(field.type) for field in schema][:2] == ["int32", "string"]
    assert [field.nullable for field in schema][:3] == [False, False, True]
    assert schema.field("price").type == pa.decimal128(10, 2)


def test_the_server_says_who_it_is_and_what_it_can(adbc: Any) -> None:
    info = adbc.connection.adbc_get_info()
    assert info["vendor_name"] == "quackllm"
    assert info["vendor_arrow_version"] == pa.__version__
    assert "VIEW" in adbc.connection.adbc_get_table_types()
    assert adbc.connection.adbc_current_catalog == "memory"
    assert adbc.connection.adbc_current_db_schema == "main"


CHEAP: list[tuple[str, Callable[[Any], Any]]] = [
    ("prepare", lambda c: c.adbc_prepare(QUESTION)),
    ("prepare with a prompt", lambda c: c.adbc_prepare("SELECT LLM_FILTER(?, title) FROM movies")),
    ("schema", lambda c: c.adbc_execute_schema(QUESTION)),
    ("schema of a view", lambda c: c.adbc_execute_schema("SELECT * FROM asked")),
    ("explain", lambda c: c.execute(f"EXPLAIN {QUESTION}").fetchall()),
    ("no rows", lambda c: c.execute(f"SELECT * FROM ({QUESTION}) LIMIT 0").fetchall()),
    ("a view", lambda c: c.execute(f"CREATE OR REPLACE VIEW asked AS {QUESTION}")),
    ("objects", lambda c: c.connection.adbc_get_objects(depth="all").read_all()),
    ("the schema of a table", lambda c: c.connection.adbc_get_table_schema("asked")),
]


@pytest.mark.parametrize(("name", "work"), CHEAP, ids=[name for name, _ in CHEAP])
def test_no_model_is_called_by(
    served: Flying, adbc: Any, name: str, work: Callable[[Any], Any]
) -> None:
    adbc.execute(f"CREATE OR REPLACE VIEW asked AS {QUESTION}")
    before = served.fake.calls
    work(adbc)
    assert served.fake.calls == before


def test_a_question_is_asked_once_for_each_distinct_value(served: Flying, adbc: Any) -> None:
    before = served.fake.calls
    sql = "SELECT LLM('By ADBC only', synopsis) FROM movies"
    assert len(adbc.execute(sql).fetchall()) == 20
    assert served.fake.calls == before + 3
    adbc.execute(sql).fetchall()
    assert served.fake.calls == before + 3, "the answers are remembered"


def test_rows_come_as_they_are_made_and_two_results_at_once(adbc: Any) -> None:
    first = adbc.execute("SELECT i FROM range(3000000) r(i)").fetch_record_batch()
    head = next(first)
    assert 0 < head.num_rows < 3_000_000
    with adbc.connection.cursor() as other:
        assert other.execute("SELECT 'other'").fetchone() == ("other",)
    assert head.num_rows + sum(batch.num_rows for batch in first) == 3_000_000


def test_rows_larger_than_a_message_come_in_pieces(adbc: Any) -> None:
    rows = adbc.execute("SELECT repeat('x', 1000000) AS x FROM range(40)").fetchall()
    assert [len(x) for (x,) in rows] == [1_000_000] * 40


def test_a_session_keeps_its_settings_and_its_temporary_tables(served: Flying) -> None:
    with connect(served) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET llm_max_calls = 1")
            cursor.execute("CREATE TEMP TABLE mine AS SELECT 1 AS a")
        with connection.cursor() as cursor:
            assert cursor.execute("FROM mine").fetchone() == (1,)
            with pytest.raises(dbapi.Error, match="llm_max_calls"):
                cursor.execute("SELECT LLM('Too many', title) FROM movies").fetchall()
        with connect(served) as other, other.cursor() as cursor:
            assert cursor.execute("SHOW llm_max_calls").fetchone() != ("1",)
            with pytest.raises(dbapi.Error, match="mine"):
                cursor.execute("FROM mine")


def test_a_database_is_chosen_by_a_header(served: Flying) -> None:
    header = "adbc.flight.sql.rpc.call_header.database"
    with (
        cursor_of(served, **{header: "other"}) as cursor,
        pytest.raises(dbapi.Error, match="movies"),
    ):
        cursor.execute("FROM movies")
    with (
        pytest.raises(dbapi.Error, match="This server has other, shop"),
        cursor_of(served, **{header: "nope"}) as cursor,
    ):
        cursor.execute("SELECT 1")


def test_sessions_are_listed_and_end_with_their_clients(served: Flying, adbc: Any) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ADBC%'"
    [(before,)] = adbc.execute(count).fetchall()
    with connect(served) as connection, connection.cursor() as cursor:
        assert cursor.execute(count).fetchone() == (before + 1,)
    assert adbc.execute(count).fetchone() == (before,)


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - started


def asking(connection: Any, failures: list[BaseException]) -> tuple[threading.Thread, Any]:
    """Ask a question in a thread; return it and its cursor."""
    cursor = connection.cursor()

    def ask() -> None:
        try:
            cursor.execute(QUESTION).fetchall()
        except BaseException as error:  # noqa: BLE001 - looked at by the test's own thread
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, cursor


def test_cancel_frees_the_model_within_a_second_and_the_session_goes_on() -> None:
    with flying(FakeProvider(latency=60.0)) as served, connect(served) as connection:
        failures: list[BaseException] = []
        thread, cursor = asking(connection, failures)
        wait_until(lambda: served.fake.in_flight)
        cursor.adbc_cancel()
        assert wait_until(lambda: not served.fake.in_flight) < 1
        thread.join(10)
        assert len(failures) == 1
        cursor.close()
        with connection.cursor() as again:
            assert again.execute("SELECT 42").fetchone() == (42,)


def test_a_session_is_cancelled_and_ended_by_sql() -> None:
    with flying(FakeProvider(latency=60.0)) as served, connect(served) as boss:
        failures: list[BaseException] = []
        connection = connect(served, username="slow", password="x")
        thread, cursor = asking(connection, failures)
        wait_until(lambda: served.fake.in_flight)
        with boss.cursor() as chief:
            listed = "SELECT pid, state, query FROM pg_stat_activity WHERE usename = 'slow'"
            [(pid, state, query)] = chief.execute(listed).fetchall()
            assert (state, query) == ("active", QUESTION)
            assert chief.execute("SELECT pg_cancel_backend(?)", (pid,)).fetchone() == (True,)
            assert wait_until(lambda: not served.fake.in_flight) < 1
            thread.join(10)
            assert "CANCELLED" in str(failures[0])
            assert chief.execute("SELECT pg_terminate_backend(?)", (pid,)).fetchone() == (True,)
            assert chief.execute(listed).fetchall() == []
        close_quietly(cursor)
        with pytest.raises(dbapi.Error, match="log in again"), connection.cursor() as again:
            again.execute("SELECT 1")
        connection.close()


def test_a_server_that_stops_ends_calls_and_tells_its_clients() -> None:
    fake = FakeProvider(latency=60.0)
    failures: list[BaseException] = []
    with ExitStack() as stack:
        with flying(fake) as served:
            connection = stack.enter_context(connect(served))
            thread, cursor = asking(connection, failures)
            stack.callback(lambda: close_quietly(cursor))
            wait_until(lambda: fake.in_flight)
        assert fake.in_flight == 0
        thread.join(10)
        assert len(failures) == 1


def close_quietly(cursor: Any) -> None:
    """Close a cursor whose server may be gone."""
    with contextlib.suppress(dbapi.Error):
        cursor.close()


USERS = {
    "anna": Role("anna", verifier_of("sécret")),
    "ben": Role("ben", verifier_of("b"), read_only=True, databases=("other", "shop")),
    "cleo": Role(
        "cleo", verifier_of("c"), databases=("shop",), models=("fast",), settings={"max_calls": 2}
    ),
}


def test_the_right_password_gets_in_and_no_other() -> None:
    with flying(users=USERS) as served:
        with cursor_of(served, **login("anna", "sécret")) as cursor:
            assert cursor.execute("SELECT current_user").fetchone() == ("anna",)
        for options, says in (
            (login("anna", "wrong"), "authentication failed"),
            (login("nobody", "sécret"), "authentication failed"),
            (login("anna", ""), r"authentication failed|log in"),
            ({}, "log in with"),
            ({"adbc.flight.sql.authorization_header": "Bearer guessed"}, "log in again"),
        ):
            with (
                pytest.raises(dbapi.Error, match=says),
                cursor_of(served, **options) as cursor,
            ):
                cursor.execute("SELECT 1")


def test_a_role_writes_reads_and_asks_only_as_it_may() -> None:
    shop = {"adbc.flight.sql.rpc.call_header.database": "shop"}
    with flying(users=USERS) as served:
        with cursor_of(served, **login("ben", "b"), **shop) as cursor:
            assert cursor.execute("SELECT count(*) FROM movies").fetchone() == (20,)
            for sql in ("DELETE FROM reviews", "CREATE TABLE x (a INT)"):
                with pytest.raises(dbapi.Error, match="read-only session"):
                    cursor.execute(sql)
            with pytest.raises(dbapi.Error, match="read-only session"):
                cursor.adbc_ingest("x", ROWS)
        with cursor_of(served, **login("cleo", "c")) as cursor:
            for sql in (
                "SET llm_model = 'large'",
                "SET llm_max_calls = 99",
                "SELECT LLM('x', title, model := 'large') FROM movies",
            ):
                with pytest.raises(dbapi.Error, match=r"may not (change|answer)"):
                    cursor.execute(sql)
            with pytest.raises(dbapi.Error, match="llm_max_calls"):
                cursor.execute("SELECT LLM('Budget', title) FROM movies").fetchall()
        other = {"adbc.flight.sql.rpc.call_header.database": "other"}
        with (
            pytest.raises(dbapi.Error, match="permission denied"),
            cursor_of(served, **login("cleo", "c"), **other) as cursor,
        ):
            cursor.execute("SELECT 1")
        assert served.fake.calls <= 2


def test_more_clients_than_allowed_are_refused() -> None:
    with flying(most_sessions=1) as served, cursor_of(served) as first:
        assert first.execute("SELECT 1").fetchone() == (1,)
        with (
            pytest.raises(dbapi.Error, match="too many clients"),
            cursor_of(served) as second,
        ):
            second.execute("SELECT 1")


def test_a_session_that_is_silent_ends() -> None:
    assert sessions.IDLE_SECONDS >= 600
    with flying(idle_seconds=0.2) as served, cursor_of(served) as cursor:
        cursor.execute("CREATE TEMP TABLE mine (a INTEGER)")
        wait_until(lambda: len(served.databases.registry) == 0)


def test_thirty_two_clients_at_once(served: Flying) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with cursor_of(served) as cursor:
                for i in range(5):
                    found = cursor.execute("SELECT ?::INTEGER", (number * i,)).fetchone()
                    assert found == (number * i,)
                cursor.execute(QUESTION + " WHERE id < 3").fetchall()
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
         folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_tls_is_spoken(certificate: Path) -> None:
    pem = (certificate / "cert.pem").read_bytes()
    key = (certificate / "key.pem").read_bytes()
    roots = {"adbc.flight.sql.client_option.tls_root_certs": pem.decode()}
    with (
        flying(users=USERS, certificate=pem, key=key) as served,
        cursor_of(served, **login("anna", "sécret"), **roots) as cursor,
    ):
        assert cursor.execute("SELECT count(*) FROM movies").fetchone() == (20,)
        assert cursor.execute("SHOW ssl").fetchone() == ("on",)
