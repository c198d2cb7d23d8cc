"""Who gets in, and what each may do: SCRAM, TLS, roles, read-only sessions."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from quackllm.server.pgwire.roles import Role, UsersFileError, read_users
from quackllm.server.pgwire.scram import read_verifier, verifier_of
from quackllm.server.serve import main
from tests.server.pgwire.running import TABLES, Running, Wire, error_fields, running

USERS = {
    "anna": Role("anna", verifier_of("sécret")),
    "ben": Role("ben", verifier_of("b"), read_only=True, databases=("shop",)),
    "cleo": Role("cleo", verifier_of("c"), models=("fast",), settings={"concurrency": 2}),
    "dana": Role("dana", verifier_of("d"), settings={"max_calls": 5}),
}


def connect(
    port: int, user: str, password: str, dbname: str = "shop", sslmode: str = "prefer"
) -> psycopg.Connection:
    dsn = f"host=127.0.0.1 port={port} user={user} dbname={dbname} sslmode={sslmode}"
    return psycopg.connect(dsn, password=password, autocommit=True)


def test_the_right_password_gets_in_and_no_other() -> None:
    with running({"users": USERS}) as served:
        with connect(served.port, "anna", "sécret") as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("anna",)
        for user, password in (("anna", "wrong"), ("nobody", "sécret"), ("anna", "")):
            with pytest.raises(
                psycopg.OperationalError, match=r"authentication failed|no password"
            ):
                connect(served.port, user, password)


def test_before_the_password_nothing_is_answered() -> None:
    with running({"users": USERS}) as served, Wire(served.port) as client:
        client.send(b"\0\0\0\x21\0\x03\0\0user\0anna\0database\0shop\0\0")
        assert (client.answer() or (b"",))[0] == b"R"
        client.message(b"Q", b"SELECT 1\0")
        [(kind, body)] = client.answers()
        assert (kind, error_fields(body)["C"]) == (b"E", "08P01")


def test_a_role_writes_reads_and_asks_only_as_it_may() -> None:
    with running({"users": USERS}) as served:
        with connect(served.port, "ben", "b") as ben:
            assert ben.execute("SELECT count(*) FROM movies").fetchone() == (20,)
            for sql in ("DELETE FROM reviews", "CREATE TABLE x (a INT)", "COPY movies FROM STDIN"):
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    ben.execute(sql)
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            connect(served.port, "ben", "b", dbname="other")
        with connect(served.port, "cleo", "c") as cleo:
            assert cleo.execute("SHOW llm_concurrency").fetchone() == ("2",)
            cleo.execute("SET llm_model = 'fast'")
            for sql in (
                "SET llm_model = 'large'",
                "SET llm_base_url = 'http://elsewhere'",
                "SET llm_concurrency = 99",
                "RESET llm_concurrency",
                "CREATE MODEL mine (model 'large')",
                "SELECT LLM('x', title, model := 'large') FROM movies",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    cleo.execute(sql)
        assert served.fake.calls == 0


STORED = """
CREATE VIEW by_large AS SELECT id, LLM_FILTER('Is it?', title, model := 'large') AS f FROM movies;
CREATE VIEW by_fast AS SELECT id, LLM_FILTER('Is it?', title, model := 'FAST') AS f FROM movies;
CREATE VIEW by_any AS SELECT id, LLM_FILTER('Is it?', title) AS f FROM movies;
CREATE MACRO judged(x) AS LLM('Judge.', x, model := 'large');
"""


@pytest.fixture(scope="module")
def limited() -> Iterator[Running]:
    with running({"users": USERS}, tables=TABLES + STORED) as served:
        yield served


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM by_large",
        "SELECT count(*) FROM by_large WHERE f",
        "SELECT judged(title) FROM movies",
        "CREATE TABLE mine AS SELECT * FROM by_large",
        "UPDATE movies SET synopsis = judged(title)",
        "PREPARE p AS SELECT * FROM by_large",
        "SELECT llm_call('', '', title) FROM movies",
        "FROM query('SELECT * FROM by_large')",
        "SET llm_allowed_models = 'large'",
        "RESET llm_allowed_models",
        "SET SESSION llm_model = 'large'",
    ],
)
def test_no_statement_asks_a_model_that_a_role_may_not(limited: Running, sql: str) -> None:
    before = limited.fake.calls
    with (
        connect(limited.port, "cleo", "c") as cleo,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        cleo.execute(sql)
    assert limited.fake.calls == before


@pytest.mark.parametrize("user", ["cleo", "dana"])
def test_a_copy_is_held_to_what_its_role_may_ask(limited: Running, user: str) -> None:
    before = limited.fake.calls
    with (
        connect(limited.port, user, user[0]) as connection,
        connection.cursor() as cursor,
        pytest.raises(
            (psycopg.errors.InsufficientPrivilege, psycopg.errors.ConfigurationLimitExceeded)
        ),
        cursor.copy("COPY (SELECT * FROM by_large) TO STDOUT") as rows,
    ):
        rows.read()
    assert limited.fake.calls == before


def test_a_view_costs_what_its_query_would_and_says_so(limited: Running) -> None:
    told: list[str] = []
    with connect(limited.port, "anna", "sécret") as anna:
        anna.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        anna.execute("CREATE OR REPLACE VIEW twice AS SELECT LLM('Told?', title[:5]) FROM movies")
        before = limited.fake.calls
        assert len(anna.execute("SELECT * FROM twice").fetchall()) == 20
        assert limited.fake.calls == before + 1, "twenty rows, one question"
    assert told[0].startswith("1 call ")


def test_views_over_models_that_it_may_ask_are_open_to_a_role(limited: Running) -> None:
    with connect(limited.port, "cleo", "c") as cleo:
        assert cleo.execute("SHOW llm_model").fetchone() == ("fast",), "its first model answers"
        assert len(cleo.execute("SELECT * FROM by_fast").fetchall()) == 20
        assert len(cleo.execute("SELECT * FROM by_any").fetchall()) == 20
        assert cleo.execute("EXPLAIN SELECT * FROM by_any").fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT LLM('How many?', title) FROM movies",
        "SELECT LLM('By view?', f) FROM (SELECT LLM('How many?', title) AS f FROM movies)",
        "CREATE TABLE mine AS SELECT LLM('How many?', title) FROM movies",
        "INSERT INTO reviews SELECT 1000 + id, id, LLM('How many?', title), 1 FROM movies",
    ],
)
def test_the_budget_of_a_role_holds_for_each_of_its_statements(limited: Running, sql: str) -> None:
    before = limited.fake.calls
    with connect(limited.port, "dana", "d") as dana:
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="llm_max_calls"):
            dana.execute(sql)
        assert limited.fake.calls == before, "what is certain to cost too much asks nothing"
        sad = "SELECT LLM('How sad?', title) FROM movies WHERE id < 5"
        assert len(dana.execute(sad).fetchall()) == 5
        for _ in range(2):  # refreshes come from the answers that are kept
            assert len(dana.execute(sad).fetchall()) == 5
    with connect(limited.port, "anna", "sécret") as anna:
        assert anna.execute("SHOW llm_max_calls").fetchone() == ("",), "others have no such limit"


@pytest.mark.parametrize(
    "sql",
    [
        "SET llm_max_calls = 1000",
        "SET SESSION llm_max_calls TO 1000",
        "RESET llm_max_calls",
        "PREPARE p AS SELECT LLM('How many?', title) FROM movies",
    ],
)
def test_a_role_cannot_lift_its_budget(limited: Running, sql: str) -> None:
    with connect(limited.port, "dana", "d") as dana:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            dana.execute(sql)
        dana.execute("RESET ALL")
        dana.execute("DISCARD ALL")
        dana.execute("SELECT set_config('llm_max_calls', '1000', false)")
        assert dana.execute("SHOW llm_max_calls").fetchone() == ("5",)


@pytest.mark.parametrize("option", ["llm_max_calls=1000", "llm_max_calls=0x99"])
def test_a_role_cannot_lift_its_budget_when_it_connects(limited: Running, option: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="may not change llm_max_calls"):
        psycopg.connect(
            f"host=127.0.0.1 port={limited.port} user=dana dbname=shop password=d",
            options=f"-c {option}",
        )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_tls_is_spoken_and_can_be_required(certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with running({"tls": tls, "require_tls": True, "users": USERS}) as served:
        with connect(served.port, "anna", "sécret", sslmode="require") as connection:
            assert connection.pgconn.ssl_in_use
            assert connection.execute("SELECT sum(i) FROM range(300000) r(i)").fetchone()
            assert len(connection.execute("SELECT repeat('x', 999) FROM range(9999)").fetchall())
        with pytest.raises(psycopg.OperationalError, match="encrypted connections only"):
            connect(served.port, "anna", "sécret", sslmode="disable")
        with Wire(served.port) as client:
            client.send(b"\0\0\0\x08\x04\xd2\x16\x2f" + b"\0\0\0\x08\x04\xd2\x16\x30")
            assert b"unencrypted data" in (client.answer() or (b"", b""))[1]


def test_more_clients_than_allowed_are_refused() -> None:
    with (
        running({"max_connections": 1}) as served,
        psycopg.connect(served.dsn),
        pytest.raises(psycopg.OperationalError, match="too many clients"),
    ):
        psycopg.connect(served.dsn)


def test_a_verifier_is_postgresqls() -> None:
    text = str(verifier_of("pencil", b"0123456789abcdef"))
    assert text.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert read_verifier(text) == verifier_of("pencil", b"0123456789abcdef")
    assert read_verifier("pencil") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"no \[users.NAME\] table"),
        ("[users.a]\nread_only = true", "password is missing"),
        ("[users.a]\npassword = 'x'\nread_onyl = true", "did you mean read_only"),
        ("[users.a]\npassword = 'x'\nsettings = { nope = 1 }", "llm_nope"),
        ("[users.a]\npassword = 'x'\nmodels = 'fast'", "models is a list"),
        ("[users", "cannot read"),
    ],
)
def test_a_users_file_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "users.toml").write_text(text)
    with pytest.raises(UsersFileError, match=says):
        read_users(tmp_path / "users.toml")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--users FILE"),
        (["--require-tls"], "--tls-cert is missing"),
        (["--tls-cert", "/nowhere.pem"], "cannot use"),
        (["--users", "/nowhere.toml"], "cannot read"),
        (["a=:memory:", "a=:memory:"], "two databases are called a"),
        (["--set", "llm_nope=1"], "cannot set llm_nope"),
    ],
)
def test_a_command_line_that_is_wrong_says_how(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
