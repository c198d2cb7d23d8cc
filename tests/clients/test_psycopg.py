"""psycopg 3: text and binary, prepared, pipelines, cursors, COPY, notices, cancel, asyncio."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import math
import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql as compose
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.json import Jsonb

from quackllm.testing import FakeProvider
from tests.clients.values import SHOWN_DIFFERENTLY, TEXTS
from tests.server.pgwire.running import Running, running
from tests.server.pgwire.test_calls import wait_until

pytestmark = pytest.mark.clients

QUESTION = "SELECT id, LLM_FILTER('Is it odd?', synopsis) AS odd FROM movies"


@pytest.fixture
def pg(served: Running) -> Iterator[psycopg.Connection]:
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize(
    ("sql", "text"), [*TEXTS, *SHOWN_DIFFERENTLY], ids=[s[:40] for s, _ in (*TEXTS, *SHOWN_DIFFERENTLY)]
)  # fmt: skip
def test_a_value_is_written(pg: psycopg.Connection, sql: str, text: str) -> None:
    """The bytes as they come: Python has no dates before Christ and none that is infinite."""
    result = pg.execute(f"SELECT {sql}").pgresult
    assert result is not None
    assert (result.get_value(0, 0) or b"").decode() == text


OLD = [
    ("TIMESTAMP '0044-03-15 (BC) 12:00:00'", "0044-03-15 12:00:00 BC"),
    ("TIMESTAMP '0001-12-31 23:59:59'", "0001-12-31 23:59:59"),
    ("'-infinity'::TIMESTAMP", "-infinity"),
    ("'-infinity'::DATE", "-infinity"),
    ("'infinity'::TIMESTAMPTZ", "infinity"),
    ("[DATE '0044-03-15 (BC)', DATE '2024-01-01', NULL]", '{"0044-03-15 BC",2024-01-01,NULL}'),
    ("CAST(NULL AS DATE)", ""),
]


@pytest.mark.parametrize(("sql", "text"), OLD, ids=[sql[:40] for sql, _ in OLD])
def test_a_time_that_is_long_ago_is_written(pg: psycopg.Connection, sql: str, text: str) -> None:
    test_a_value_is_written(pg, sql, text)


SENT: list[Any] = [
    True, 0, -1, 2**40, 1.5, math.inf, Decimal("-12.50"), "it's é 😀", "", b"\x00\xff",
    dt.date(1969, 12, 31), dt.time(1, 2, 3, 4), dt.datetime(2024, 1, 2, 3, 4, 5, 6),
    dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.timedelta(days=3, seconds=4), uuid.UUID(int=7),
    [1, None, 3],
]  # fmt: skip


@pytest.mark.parametrize("form", ["%s", "%t", "%b"], ids=["auto", "text", "binary"])
@pytest.mark.parametrize("value", SENT, ids=[repr(value)[:30] for value in SENT])
def test_a_value_goes_there_and_back(pg: psycopg.Connection, value: Any, form: str) -> None:
    if form == "%b" and isinstance(value, str):
        form = "%s"  # psycopg sends texts of no type, which has no binary form
    for binary in (False, True):
        found = pg.execute(f"SELECT {form} AS x", (value,), binary=binary).fetchone()
        assert found == (value,)


def test_a_list_of_texts_goes_there_and_back(pg: psycopg.Connection) -> None:
    value = ["a", 'q"x', None, "", "NULL", "{}"]
    assert pg.execute("SELECT %s::VARCHAR[]", (value,)).fetchone() == (value,)


def test_rows_come_as_dicts_and_named_tuples(pg: psycopg.Connection) -> None:
    query = "SELECT id, title FROM movies WHERE id = %(id)s"
    assert pg.cursor(row_factory=dict_row).execute(query, {"id": 2}).fetchall() == [
        {"id": 2, "title": "Movie 2"}
    ]
    named: Any = pg.cursor(row_factory=namedtuple_row).execute(query, {"id": 3}).fetchone()
    assert named.title == "Movie 3"


def test_names_are_composed(pg: psycopg.Connection) -> None:
    query = compose.SQL("SELECT {} FROM {} WHERE id = {}").format(
        compose.Identifier("title"), compose.Identifier("main", "movies"), compose.Literal(4)
    )
    assert pg.execute(query).fetchone() == ("Movie 4",)


def test_columns_are_described(pg: psycopg.Connection) -> None:
    cursor = pg.execute("SELECT id, price, tags FROM movies LIMIT 0")
    assert cursor.description is not None
    found = [(c.name, c.type_display) for c in cursor.description]
    assert found == [("id", "int4"), ("price", "numeric(10,2)"), ("tags", "text[]")]
    assert cursor.rowcount == 0


def test_a_prepared_statement_is_used_again(pg: psycopg.Connection) -> None:
    for i in range(10):
        found = pg.execute("SELECT title FROM movies WHERE id = %s", (i,), prepare=True).fetchone()
        assert found == (f"Movie {i}",)
    with pytest.raises(psycopg.errors.UndefinedTable):
        pg.execute("SELECT * FROM nowhere WHERE a = %s", (1,), prepare=True)
    pg.execute("DEALLOCATE ALL")
    assert pg.execute("SELECT %s::INT", (1,), prepare=True).fetchone() == (1,)


def test_a_pipeline_is_answered_in_order(pg: psycopg.Connection) -> None:
    with pg.pipeline():
        cursors = [pg.execute("SELECT %s::INT * 2", (i,)) for i in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(i * 2,) for i in range(50)]


def test_an_error_in_a_pipeline_ends_up_to_its_sync(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn), pg.pipeline() as pipeline:
        first = pg.execute("SELECT 1")
        pg.execute("SELECT nope FROM movies")
        skipped = pg.execute("SELECT 2")
        pipeline.sync()
    assert first.fetchone() == (1,)
    with pytest.raises(psycopg.Error):
        skipped.fetchone()
    assert pg.execute("SELECT 3").fetchone() == (3,)


def test_changes_of_a_pipeline_are_kept_or_lost_together(pg: psycopg.Connection) -> None:
    pg.execute("CREATE TEMP TABLE piped (a INTEGER PRIMARY KEY)")
    with pytest.raises(psycopg.errors.UniqueViolation), pg.pipeline():
        pg.execute("INSERT INTO piped VALUES (1)")
        pg.execute("INSERT INTO piped VALUES (1)")
    assert pg.execute("SELECT count(*) FROM piped").fetchone() == (0,)


def test_many_rows_are_inserted_and_returned(pg: psycopg.Connection) -> None:
    pg.execute("CREATE TEMP TABLE many (id INTEGER, name VARCHAR)")
    cursor = pg.cursor()
    cursor.executemany("INSERT INTO many VALUES (%s, %s)", [(i, f"n{i}") for i in range(200)])
    assert cursor.rowcount == 200
    cursor.executemany(
        "INSERT INTO many VALUES (%s, %s) RETURNING id", [(1, "a"), (2, "b")], returning=True
    )
    found = [cursor.fetchone()]
    while cursor.nextset():
        found.append(cursor.fetchone())
    assert found == [(1,), (2,)]


def test_several_statements_have_several_results(pg: psycopg.Connection) -> None:
    cursor = pg.execute("SELECT 1; SELECT 'x', 2")
    assert cursor.fetchall() == [(1,)]
    assert cursor.nextset()
    assert cursor.fetchall() == [("x", 2)]
    assert not cursor.nextset()


def test_a_cursor_of_the_server_fetches_in_pieces(served: Running) -> None:
    with psycopg.connect(served.dsn) as pg, pg.cursor("c") as cursor:
        cursor.execute("SELECT i FROM range(1000) r(i) WHERE i >= %s", (10,))
        assert cursor.fetchone() == (10,)
        assert [i for (i,) in cursor.fetchmany(5)] == [11, 12, 13, 14, 15]
        cursor.itersize = 64
        assert sum(1 for _ in cursor) == 1000 - 16


def test_a_cursor_with_hold_outlives_its_transaction(served: Running) -> None:
    with psycopg.connect(served.dsn) as pg:
        cursor = pg.cursor("kept", withhold=True)
        cursor.execute("SELECT i FROM range(10) r(i)")
        assert cursor.fetchone() == (0,)
        pg.commit()
        assert cursor.fetchall() == [(i,) for i in range(1, 10)]
        cursor.close()


def test_a_cursor_that_goes_back_is_refused(served: Running) -> None:
    with psycopg.connect(served.dsn) as pg, pg.cursor("back", scrollable=True) as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            cursor.scroll(-1)
        pg.rollback()


def test_rows_are_streamed_one_by_one(pg: psycopg.Connection) -> None:
    total = 0
    for (i,) in pg.cursor().stream("SELECT i FROM range(5000) r(i)"):
        total += i
    assert total == 12497500
    assert pg.execute("SELECT 1").fetchone() == (1,)


COPIES = ["", "(FORMAT csv, HEADER)", "(FORMAT binary)", "(FORMAT csv, DELIMITER ';', NULL 'nil')"]


@pytest.mark.parametrize("options", COPIES)
def test_copy_goes_out_and_in(pg: psycopg.Connection, options: str) -> None:
    pg.execute("CREATE OR REPLACE TEMP TABLE copied AS SELECT * FROM movies LIMIT 0")
    out = io.BytesIO()
    cursor = pg.cursor()
    with cursor.copy(f"COPY movies TO STDOUT {options}") as reading:
        for piece in reading:
            out.write(piece)
    out.seek(0)
    with cursor.copy(f"COPY copied FROM STDIN {options}") as writing:
        while piece := out.read(100):
            writing.write(piece)
    assert cursor.rowcount == 20
    assert pg.execute("FROM copied EXCEPT ALL FROM movies").fetchall() == []


def test_copy_takes_rows_and_gives_them(pg: psycopg.Connection) -> None:
    pg.execute("CREATE TEMP TABLE rows_in (a INTEGER, b VARCHAR, c DOUBLE)")
    rows = [(i, f"t\t{i}\n\\", None if i % 3 else i / 2) for i in range(1000)]
    with pg.cursor().copy("COPY rows_in FROM STDIN") as writing:
        for row in rows:
            writing.write_row(row)
    with pg.cursor().copy("COPY (FROM rows_in ORDER BY a) TO STDOUT (FORMAT binary)") as reading:
        reading.set_types(["int4", "text", "float8"])
        assert list(reading.rows()) == rows


def test_copy_that_fails_stores_nothing(pg: psycopg.Connection) -> None:
    pg.execute("CREATE TEMP TABLE empty_still (a INTEGER)")
    for text in (b"1\nx\n", b"1\n2\t3\n"):
        with pytest.raises(psycopg.Error), pg.cursor().copy("COPY empty_still FROM STDIN") as copy:
            copy.write(text)
    with (
        pytest.raises(psycopg.errors.CharacterNotInRepertoire),
        pg.cursor().copy("COPY empty_still FROM STDIN") as copy,
    ):
        copy.write(b"1\n\0\n")
    with pytest.raises(ZeroDivisionError), pg.cursor().copy("COPY empty_still FROM STDIN") as copy:
        copy.write(b"1\n")
        raise ZeroDivisionError
    assert pg.execute("SELECT count(*) FROM empty_still").fetchone() == (0,)


def test_answers_are_copied_out(served: Running, pg: psycopg.Connection) -> None:
    query = "SELECT id, LLM_FILTER('Is it copied?', synopsis) FROM movies"
    before = served.fake.calls
    with pg.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
        assert len(list(copy.rows())) == 20
    assert served.fake.calls == before + 3


def notices(pg: psycopg.Connection) -> list[tuple[str, str]]:
    """Collect notices as (severity, text)."""
    told: list[tuple[str, str]] = []
    pg.add_notice_handler(lambda n: told.append((n.severity or "", n.message_primary or "")))
    return told


def test_a_notice_says_what_a_statement_cost(pg: psycopg.Connection) -> None:
    told = notices(pg)
    pg.execute("SELECT LLM('A notice of psycopg', title) FROM movies WHERE id < 3")
    pg.execute("SELECT 1")
    assert [(severity, text[:7]) for severity, text in told] == [("NOTICE", "3 calls")]


def test_a_transaction_that_is_not_there_is_warned_of(pg: psycopg.Connection) -> None:
    told = notices(pg)
    pg.execute("COMMIT")
    assert told == [("WARNING", "there is no transaction in progress")]


def test_transactions_nest_as_far_as_duckdb_goes(served: Running) -> None:
    with psycopg.connect(served.dsn) as pg:
        with pg.transaction():
            pg.execute("CREATE TEMP TABLE nested (a INTEGER)")
            with pg.transaction():
                pg.execute("INSERT INTO nested VALUES (1)")
        with pytest.raises(ZeroDivisionError), pg.transaction():
            pg.execute("INSERT INTO nested VALUES (2)")
            raise ZeroDivisionError
        assert pg.execute("SELECT list(a) FROM nested").fetchone() == ([1],)


ERRORS: list[tuple[str, type[psycopg.Error], str]] = [
    ("SELECT nope FROM movies", psycopg.errors.UndefinedColumn, "8"),
    ("SELECT * FROM nowhere", psycopg.errors.UndefinedTable, "15"),
    ("SELEC 1", psycopg.errors.SyntaxError, "1"),
    ("SELECT nofunction(1)", psycopg.errors.UndefinedFunction, "8"),
    ("SELECT 'x'::INTEGER", psycopg.errors.InvalidTextRepresentation, "11"),
    ("SELECT 300::TINYINT", psycopg.errors.NumericValueOutOfRange, "11"),
    ("INSERT INTO movies (id, title) VALUES (1, 'x')", psycopg.errors.UniqueViolation, ""),
    ("INSERT INTO movies (id) VALUES (99)", psycopg.errors.NotNullViolation, ""),
    ("INSERT INTO reviews VALUES (99, 1, 'x', 9)", psycopg.errors.CheckViolation, ""),
    ("INSERT INTO reviews VALUES (99, 99, 'x', 1)", psycopg.errors.ForeignKeyViolation, ""),
    ("CREATE TABLE movies (a INTEGER)", psycopg.errors.DuplicateTable, ""),
    ("SELECT title, count(*) FROM movies", psycopg.errors.GroupingError, "8"),
]


@pytest.mark.parametrize(
    ("sql", "kind", "position"), ERRORS, ids=[kind.__name__ for _, kind, _ in ERRORS]
)
def test_an_error_is_of_its_class_and_in_its_place(
    pg: psycopg.Connection, sql: str, kind: type[psycopg.Error], position: str
) -> None:
    with pytest.raises(kind) as caught:
        pg.execute(sql)
    assert (caught.value.diag.statement_position or "") == position


def test_parameters_of_wrong_type_are_errors(pg: psycopg.Connection) -> None:
    for kind, value in (("INTEGER", "x"), ("DATE", "2024-13-01"), ("UUID", "nothing")):
        with pytest.raises(psycopg.errors.DataError):
            pg.execute(f"SELECT %s::{kind}", (value,)).fetchall()
    with pytest.raises(psycopg.DataError, match="NUL"):
        pg.execute("SELECT %s", ("a\0b",))
    assert pg.execute("SELECT %s", (Jsonb({"a": 1}),)).fetchone() == ({"a": 1},)


def test_cancel_frees_the_model_and_the_connection_goes_on() -> None:
    with running(fake=FakeProvider(latency=60.0)) as served, psycopg.connect(served.dsn) as pg:
        threading.Timer(0.5, pg.cancel_safe).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            pg.execute(QUESTION)
        assert wait_until(lambda: not served.fake.in_flight) < 1
        pg.rollback()
        assert pg.execute("SELECT 42").fetchone() == (42,)


def in_asyncio(served: Running, work: Callable[[psycopg.AsyncConnection], Any]) -> Any:
    async def connected() -> Any:
        async with await psycopg.AsyncConnection.connect(served.dsn, autocommit=True) as pg:
            return await asyncio.wait_for(work(pg), 30)

    return asyncio.run(connected())


def test_asyncio_asks_and_streams(served: Running) -> None:
    async def work(pg: psycopg.AsyncConnection) -> tuple[Any, int]:
        cursor = await pg.execute("SELECT title FROM movies WHERE id = %s", (5,))
        count = 0
        async for _ in pg.cursor().stream("SELECT i FROM range(3000) r(i)"):
            count += 1
        return await cursor.fetchone(), count

    assert in_asyncio(served, work) == (("Movie 5",), 3000)


def test_asyncio_has_pipelines_copies_and_cursors(served: Running) -> None:
    async def work(pg: psycopg.AsyncConnection) -> list[Any]:
        async with pg.pipeline():
            found = [await pg.execute("SELECT %s::INT", (i,)) for i in range(5)]
            piped = [await cursor.fetchone() for cursor in found]
        async with pg.cursor().copy("COPY movies TO STDOUT") as copy:
            rows = [row async for row in copy.rows()]
        async with pg.transaction(), pg.cursor("c") as cursor:
            await cursor.execute("SELECT i FROM range(100) r(i)")
            return [piped, len(rows), len(await cursor.fetchmany(7))]

    assert in_asyncio(served, work) == [[(i,) for i in range(5)], 20, 7]


def test_a_task_that_is_cancelled_ends_the_statement(served: Running) -> None:
    slow = "SELECT sum(hash(a.i * b.i)) FROM range(1000000) a(i), range(1000000) b(i)"

    async def work(pg: psycopg.AsyncConnection) -> Any:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pg.execute(slow), 0.3)
        return await (await pg.execute("SELECT 42")).fetchone()

    assert in_asyncio(served, work) == (42,)


def test_a_connection_is_told_what_it_may_know(pg: psycopg.Connection) -> None:
    info = pg.info
    assert (info.dbname, info.user, info.server_version) == ("shop", "tester", 150000)
    assert info.parameter_status("TimeZone") == "UTC"
    pg.execute("SET TIME ZONE 'Europe/Berlin'")
    assert str(info.timezone) == "Europe/Berlin"
    pg.execute("SET application_name = 'renamed'")
    assert info.parameter_status("application_name") == "renamed"
