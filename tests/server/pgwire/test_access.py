"""Who gets in, and what each may do: SCRAM, TLS, roles, read-only sessions."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import psycopg
import pytest

from quackllm.server.pgwire.roles import Role, UsersFileError, read_users
from quackllm.server.pgwire.scram import read_verifier, verifier_of
from quackllm.server.serve import main
from tests.server.pgwire.running import Wire, error_fields, running

USERS = {
    "anna": Role("anna", verifier_of("sécret")),
    "ben": Role("ben", verifier_of("b"), read_only=True, databases=("shop",)),
    "cleo": Role("cleo", verifier_of("c"), models=("fast",), settings={"concurrency": 2}),
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
