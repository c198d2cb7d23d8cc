"""Messages in, messages out: simple and extended queries, errors, transactions."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import duckdb
import psycopg
import pytest

from tests.server.pgwire.running import Running, Wire, error_fields, kinds, running
from tests.server.pgwire.test_calls import wait_until


def test_the_start_tells_what_drivers_wait_for(served: Running) -> None:
    with Wire(served.port) as client:
        answers = client.start(application_name="me")
    assert kinds(answers).startswith("RS")
    assert kinds(answers).endswith("KZ")
    settings = dict(body.rstrip(b"\0").split(b"\0") for kind, body in answers if kind == b"S")
    assert settings[b"server_encoding"] == b"UTF8"
    assert settings[b"standard_conforming_strings"] == b"on"
    assert settings[b"integer_datetimes"] == b"on"
    assert settings[b"application_name"] == b"me"


@pytest.mark.parametrize("code", [80877103, 80877104], ids=["tls", "gss"])
def test_encryption_that_is_not_there_is_declined(served: Running, code: int) -> None:
    with Wire(served.port) as client:
        client.send(struct.pack("!ii", 8, code))
        assert client.socket.recv(1) == b"N"
        assert kinds(client.start()).endswith("Z")


def test_a_newer_protocol_is_answered_with_ours(served: Running) -> None:
    body = struct.pack("!i", 196610) + b"user\0me\0database\0shop\0_pq_.x\0y\0\0"
    with Wire(served.port) as client:
        client.send(struct.pack("!i", len(body) + 4) + body)
        answers = client.answers()
    assert answers[0] == (b"v", struct.pack("!ii", 0, 1) + b"_pq_.x\0")


def test_an_unknown_database_is_refused_with_the_names_there_are(served: Running) -> None:
    with Wire(served.port) as client:
        [(kind, body)] = client.start(database="nope")
    fields = error_fields(body)
    assert (kind, fields["S"], fields["C"]) == (b"E", "FATAL", "3D000")
    assert fields["H"] == "This server has other, shop."


def test_several_statements_are_answered_one_by_one(wire: Wire) -> None:
    answers = wire.query("SELECT 1; SELECT 'x' AS y WHERE false; SET extra_float_digits = 3;")
    assert kinds(answers) == "TDCTCCZ"
    assert [body for kind, body in answers if kind == b"C"] == [
        b"SELECT 1\0",
        b"SELECT 0\0",
        b"SET\0",
    ]


def test_an_empty_query_is_one(wire: Wire) -> None:
    assert kinds(wire.query("")) == "IZ"
    assert kinds(wire.query(" ;; -- nothing\n")) == "IZ"


def test_an_error_ends_the_rest_of_the_query(wire: Wire) -> None:
    assert kinds(wire.query("SELECT 1; SELECT nope; SELECT 2")) == "TDCEZ"


def test_statements_of_one_query_are_kept_or_lost_together(
    pg: psycopg.Connection, wire: Wire
) -> None:
    wire.query("CREATE TABLE together (a INTEGER)")
    wire.query("INSERT INTO together VALUES (1); INSERT INTO together VALUES ('x')")
    assert pg.execute("SELECT count(*) FROM together").fetchone() == (0,)
    wire.query("INSERT INTO together VALUES (1); INSERT INTO together VALUES (2)")
    assert pg.execute("SELECT count(*) FROM together").fetchone() == (2,)


def parse(name: bytes, sql: bytes) -> bytes:
    return name + b"\0" + sql + b"\0\0\0"


def test_a_portal_gives_its_rows_in_pieces(wire: Wire) -> None:
    wire.message(b"P", parse(b"s", b"SELECT i FROM range(5) r(i)"))
    wire.message(b"B", b"p\0s\0" + struct.pack("!HHH", 0, 0, 0))
    wire.message(b"D", b"Pp\0")
    for _ in range(3):
        wire.message(b"E", b"p\0" + struct.pack("!i", 2))
    wire.message(b"S")
    answers = wire.answers()
    assert kinds(answers) == "12TDDsDDsDCZ"
    assert answers[-2][1] == b"SELECT 5\0"


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT", "bind", "leave"])
def test_rows_that_nobody_fetches_are_not_read(served: Running, end: str) -> None:
    """A result of 100 GB: a driver with a fetch size takes its first rows, and no more."""
    with Wire(served.port) as client:
        client.start()
        client.query("BEGIN")
        client.message(b"P", parse(b"", b"SELECT repeat('x', 1000) FROM range(100000000)"))
        client.message(b"B", b"\0\0" + struct.pack("!HHH", 0, 0, 0))
        for _ in range(2):
            client.message(b"E", b"\0" + struct.pack("!i", 3))
            client.message(b"S")
        assert kinds(client.answers() + client.answers()) == "12DDDsZDDDsZ"
        if end == "bind":
            client.message(b"P", parse(b"", b"SELECT 1"))
            client.message(b"B", b"\0\0" + struct.pack("!HHH", 0, 0, 0))
            client.message(b"E", b"\0" + struct.pack("!i", 0))
            client.message(b"S")
            assert kinds(client.answers()) == "12DCZ"
        elif end != "leave":
            assert kinds(client.query(end)) == "CZ"
    wait_until(lambda: len(served.server.registry) == 0)


def test_two_portals_can_be_open_at_once(wire: Wire) -> None:
    wire.query("BEGIN")
    for name in (b"a", b"b"):
        wire.message(b"P", parse(name, b"SELECT i FROM range(100000) r(i)"))
        wire.message(b"B", name + b"\0" + name + b"\0" + struct.pack("!HHH", 0, 0, 0))
    for name in (b"a", b"b", b"a"):
        wire.message(b"E", name + b"\0" + struct.pack("!i", 1))
    wire.message(b"S")
    answers = wire.answers()
    assert kinds(answers) == "1212DsDsDsZ"
    assert [body[-1:] for kind, body in answers if kind == b"D"] == [b"0", b"0", b"1"]
    wire.query("ROLLBACK")


def test_after_an_error_messages_are_passed_over_up_to_sync(wire: Wire) -> None:
    wire.message(b"P", parse(b"", b"SELECT nope FROM nowhere"))
    wire.message(b"D", b"S\0")
    first = wire.answer()
    assert first is not None
    assert kinds([first, wire.answer() or first]) == "1E", "it comes before any Sync"
    wire.message(b"P", parse(b"", b"SELECT 1"))
    wire.message(b"S")
    assert kinds(wire.answers()) == "Z"


@pytest.mark.parametrize(
    ("kind", "body", "state"),
    [
        (b"B", b"\0nope\0" + struct.pack("!HHH", 0, 0, 0), "26000"),
        (b"E", b"nope\0" + struct.pack("!i", 0), "34000"),
        (b"D", b"Xnope\0", "08P01"),
        (b"P", b"\xff\xfe\0SELECT 1\0\0\0", "08P01"),
        (b"P", parse(b"", b"SELECT 1; SELECT 2"), "42601"),
        (b"P", parse(b"", b"SELECT 1") + b"more", "08P01"),
        (b"F", b"\0\0\0\1", "08P01"),
    ],
    ids=["statement", "portal", "kind", "encoding", "two", "longer", "function"],
)
def test_a_wrong_message_is_an_error_and_no_more(
    wire: Wire, kind: bytes, body: bytes, state: str
) -> None:
    wire.message(kind, body)
    wire.message(b"S")
    answers = wire.answers()
    assert error_fields(next(body for kind, body in answers if kind == b"E"))["C"] == state
    assert kinds(wire.query("SELECT 1")) == "TDCZ"


def test_a_wrong_number_of_parameters_is_an_error(wire: Wire) -> None:
    wire.message(b"P", parse(b"", b"SELECT $1::INTEGER"))
    wire.message(b"B", b"\0\0" + struct.pack("!HHH", 0, 0, 0))
    wire.message(b"S")
    [error] = [error_fields(body) for kind, body in wire.answers() if kind == b"E"]
    assert (error["C"], error["M"]) == (
        "08P01",
        'bind message supplies 0 parameters, but prepared statement "" requires 1',
    )


ERRORS = [
    ("SELECT nope FROM movies", "42703", 8),
    ("SELECT 1,\n  nope\nFROM movies", "42703", 13),
    ("SELECT * FROM nowhere", "42P01", 15),
    ("SELECT nofunction(1)", "42883", 8),
    ("SELEC 1", "42601", 1),
    ("SELECT 'x'::INTEGER", "22P02", None),
    ("SELECT 9999999999::INTEGER", "22003", None),
    ("SELECT 'x'::DATE", "22007", None),
    ("SELECT DATE '2024-13-01'", "22008", None),
    ("SELECT '25:00:00'::TIME", "22008", None),
    ("INSERT INTO movies (id, title) VALUES (1, 'x')", "23505", None),
    ("INSERT INTO movies (id) VALUES (1000)", "23502", None),
    ("INSERT INTO reviews VALUES (1000, 1, '', 9)", "23514", None),
    ("INSERT INTO reviews VALUES (1000, 999, '', 1)", "23503", None),
    ("CREATE TABLE movies (a INTEGER)", "42P07", None),
    ("SELECT id, count(*) FROM movies", "42803", None),
    ("SELECT LLM_FILTER('x', nope) FROM movies", "42703", 24),
    ("SELECT LLM_FILTR('x', title) FROM movies", "42883", 8),
    ("SELECT LLM_FILTER('x', title, nooption := 1) FROM movies", "42000", None),
    ("SET llm_nosetting = 1", "22023", None),
    ("ROLLBACK TO SAVEPOINT x", "25P01", None),
    ("FETCH 1 FROM nocursor", "34000", None),
]


@pytest.mark.parametrize(
    ("sql", "state", "position"), ERRORS, ids=[sql[:45] for sql, _, _ in ERRORS]
)
def test_an_error_has_its_sqlstate_and_its_place(
    pg: psycopg.Connection, sql: str, state: str, position: int | None
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        pg.execute(sql)
    assert caught.value.sqlstate == state, str(caught.value)
    if position is not None:
        assert caught.value.diag.statement_position == str(position)


def test_the_place_is_in_the_text_that_was_sent(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as caught:
        pg.execute("SELECT id FROM movies WHERE title = %s AND nope = %s", ("a long value" * 9, 1))
    assert caught.value.diag.statement_position == "44"


AMONG_ROWS = """SELECT i, {dates}
    (CASE WHEN i = 700000 THEN 'x' ELSE '1' END)::INTEGER FROM range(1000000) r(i)"""


@pytest.fixture(scope="module")
def one_thread() -> Iterator[Running]:
    """A server that makes the rows of a result in their order."""
    with running() as served:
        served.connection.execute("SET threads = 1")
        yield served


@pytest.mark.parametrize("dates", ["", "DATE '2020-01-01', [1],"], ids=["plain", "converted"])
def test_an_error_among_the_rows_is_told_and_the_session_goes_on(
    one_thread: Running, dates: str
) -> None:
    sql, rows = AMONG_ROWS.format(dates=dates), 0
    pg = psycopg.connect(one_thread.dsn, autocommit=True)
    with pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught:
        for _ in pg.cursor().stream(sql):
            rows += 1
    assert 0 < rows <= 700000
    if not duckdb.__version__.startswith("1."):  # which tells places in a text of its own
        assert caught.value.diag.statement_position == str(sql.index("::INTEGER") + 1)
    assert pg.execute("SELECT 42").fetchone() == (42,)
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        pg.execute(sql)  # as a simple query
    assert pg.execute("SELECT 42").fetchone() == (42,)
    pg.close()


def test_an_error_among_the_rows_of_a_cursor_ends_the_transaction(one_thread: Running) -> None:
    """The next statement has the rest read into memory, and so is told; then DuckDB aborts."""
    with psycopg.connect(one_thread.dsn) as pg:
        for hold in (False, True):
            cursor = pg.cursor("c", withhold=hold)
            cursor.execute(AMONG_ROWS.format(dates=""))
            assert cursor.fetchone() == (0, 1)
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                pg.execute("SELECT 42")
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                cursor.fetchone()
            pg.rollback()
            assert pg.execute("SELECT 42").fetchone() == (42,)
            with pytest.raises(psycopg.errors.InvalidCursorName):
                pg.execute("FETCH 1 FROM c")
            pg.rollback()


def test_a_hint_says_what_was_meant(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as caught:
        pg.execute("SELECT titel FROM movies")
    assert "title" in (caught.value.diag.message_hint or "")


def test_a_failed_transaction_takes_nothing_but_its_end(served: Running) -> None:
    with psycopg.connect(served.dsn) as connection:
        connection.execute("INSERT INTO movies (id, title) VALUES (500, 'lost')")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute("SELECT nope FROM movies")
        assert connection.info.transaction_status.name == "INERROR"
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        assert connection.execute("COMMIT").statusmessage == "ROLLBACK"
        assert connection.execute("SELECT count(*) FROM movies WHERE id = 500").fetchone() == (0,)


def test_a_savepoint_is_kept_where_duckdb_can(served: Running) -> None:
    with psycopg.connect(served.dsn) as connection:
        with connection.transaction(), pytest.raises(psycopg.Error):  # noqa: SIM117
            with connection.transaction():
                connection.execute("SELECT nope")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_savepoint_that_cannot_be_gone_back_to_says_so(pg: psycopg.Connection) -> None:
    pg.execute("BEGIN")
    pg.execute("SAVEPOINT a")
    pg.execute("INSERT INTO movies (id, title) VALUES (501, 'x')")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="DuckDB has no savepoints"):
        pg.execute("ROLLBACK TO SAVEPOINT a")
    pg.execute("ROLLBACK")
    assert pg.execute("SELECT count(*) FROM movies WHERE id = 501").fetchone() == (0,)


def test_rows_changed_are_counted(pg: psycopg.Connection) -> None:
    pg.execute("CREATE TABLE counted AS SELECT * FROM range(3) r(a)")
    assert pg.execute("INSERT INTO counted VALUES (7), (8)").statusmessage == "INSERT 0 2"
    assert pg.execute("UPDATE counted SET a = a + 1 WHERE a > 5").rowcount == 2
    assert pg.execute("DELETE FROM counted WHERE a > 5 RETURNING a").fetchall() == [(8,), (9,)]
    assert pg.execute("WITH x AS (SELECT 5) INSERT INTO counted FROM x").rowcount == 1


def test_a_cursor_of_sql_gives_pieces_and_outlives_with_hold(served: Running) -> None:
    with psycopg.connect(served.dsn) as connection:
        with connection.cursor("named") as cursor:
            cursor.execute("SELECT i FROM range(100) r(i)")
            assert cursor.fetchmany(3) == [(0,), (1,), (2,)]
            connection.execute("SELECT 1")
            assert len(cursor.fetchall()) == 97
        kept = connection.cursor("kept", withhold=True)
        kept.execute("SELECT i FROM range(10) r(i)")
        assert kept.fetchone() == (0,)
        connection.commit()
        assert kept.fetchone() == (1,)


def test_python_variables_of_the_server_are_no_tables(pg: psycopg.Connection) -> None:
    for name in ("rows", "relation", "connection", "parsed", "batch", "table", "columns"):
        with pytest.raises(psycopg.errors.UndefinedTable):
            pg.execute(f'SELECT * FROM "{name}"')


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_copy_out_and_in_gives_the_same_rows(pg: psycopg.Connection, form: str) -> None:
    pg.execute("DROP TABLE IF EXISTS copied; CREATE TABLE copied AS FROM movies LIMIT 0")
    odd = [
        "tab\there",
        "line\nbreak",
        "back\\slash",
        "\\N",
        "quote\"d, 'x'",
        "",
        None,
        "é😀",
        "\\.",
    ]
    with pg.cursor() as cursor:
        for number, value in enumerate(odd):
            cursor.execute(
                "INSERT INTO copied VALUES (%s, 'x', %s, 1.25, DATE '2024-01-02', ['a', 'b c'])",
                (number, value),
            )
    with pg.cursor().copy(f"COPY copied TO STDOUT (FORMAT {form})") as out:
        data = b"".join(bytes(piece) for piece in out)
    pg.execute("CREATE OR REPLACE TABLE again AS FROM copied LIMIT 0")
    with pg.cursor().copy(f"COPY again FROM STDIN (FORMAT {form})") as into:
        into.write(data)
    assert (
        pg.execute("FROM again ORDER BY id").fetchall()
        == pg.execute("FROM copied ORDER BY id").fetchall()
    )
    assert pg.execute("SELECT count(*) FROM again").fetchone() == (len(odd),)


def test_a_copy_that_is_given_up_leaves_no_rows(pg: psycopg.Connection) -> None:
    pg.execute("CREATE OR REPLACE TABLE half (a INTEGER)")
    with pytest.raises(ZeroDivisionError), pg.cursor().copy("COPY half FROM STDIN") as into:
        into.write("1\n2\n")
        raise ZeroDivisionError
    with pytest.raises(psycopg.DataError), pg.cursor().copy("COPY half FROM STDIN") as into:
        into.write("1\nx\n")
    assert pg.execute("SELECT count(*) FROM half").fetchone() == (0,)


def test_settings_are_set_shown_and_told(pg: psycopg.Connection) -> None:
    pg.execute("SET application_name TO 'shown'")
    assert pg.info.parameter_status("application_name") == "shown"
    pg.execute("SET TIME ZONE 'Europe/Berlin'")
    assert pg.execute("SHOW timezone").fetchone() == ("Europe/Berlin",)
    [(shown,)] = pg.execute("SELECT '2024-01-02 00:00:00+00'::TIMESTAMPTZ").fetchall()
    assert str(shown).endswith("+01:00")
    pg.execute("SET llm_model = 'fast'")
    assert pg.execute("SHOW llm_model").fetchone() == ("fast",)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        pg.execute("SET client_encoding = 'LATIN1'")


def test_a_copy_may_stand_behind_other_statements(wire: Wire) -> None:
    begun = b"CREATE TEMP TABLE c (a INTEGER, b TEXT); COPY c (a, b) FROM STDIN (DELIMITER '|')\0"
    wire.message(b"Q", begun)
    wire.message(b"d", b"1|x\n")
    wire.message(b"c")
    assert kinds(wire.answers()) == "CGCZ"
    answers = wire.query("SELECT 1; COPY (SELECT b FROM c) TO STDOUT WITH CSV; SELECT 2")
    assert kinds(answers) == "TDCHdcCTDCZ"
    assert (b"d", b"x\n") in answers


@pytest.mark.parametrize("options", ["", "(FORMAT csv, HEADER)", "(FORMAT binary)"])
def test_a_row_of_copy_is_a_message(wire: Wire, options: str) -> None:
    """Drivers take a CopyData message for a row, and lose rows where one holds several."""
    answers = wire.query(f"COPY (SELECT i, 'x' FROM range(50) r(i)) TO STDOUT {options}")
    extra = {"": 0, "(FORMAT csv, HEADER)": 1, "(FORMAT binary)": 1}[options]
    assert kinds(answers) == "H" + "d" * (50 + extra) + "cCZ"
    nothing = wire.query(f"COPY (SELECT 1 WHERE false) TO STDOUT {options}")
    assert kinds(nothing) == "H" + "d" * extra + "cCZ"
