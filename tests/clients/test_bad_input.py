"""What goes wrong where people work, met by psql: log-in, positions, sizes, ends of either side."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import quackllm
from quackllm.server.pgwire.roles import Role
from quackllm.server.pgwire.scram import verifier_of
from quackllm.testing import FakeProvider, FakeServer
from tests.server.pgwire.running import Running, running
from tests.server.pgwire.test_calls import wait_until

pytestmark = pytest.mark.clients

if shutil.which("psql") is None:
    pytest.skip("psql is not installed (make clients as root)", allow_module_level=True)

QUESTION = "SELECT id, LLM_FILTER('Is it odd?', synopsis) AS odd FROM movies"


def psql(
    dsn: str, script: str, *options: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script; variables are of the environment."""
    return subprocess.run(
        ["psql", dsn, "-X", "-A", "-t", "-v", "VERBOSITY=verbose", *options, "-f", "-"],
        input=script, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


# Who does not get in


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that wants a password and encryption."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    users = {"tester": Role("tester", verifier_of("sécret"), databases=("shop",))}
    with running({"users": users, "tls": tls, "require_tls": True}) as served:
        yield served


@pytest.mark.parametrize(
    ("options", "password", "says"),
    [
        ("sslmode=require", "wrong", 'password authentication failed for user "tester"'),
        ("sslmode=require user=nobody", "sécret", 'password authentication failed for user "nobody"'),
        ("sslmode=disable", "sécret", "this server takes encrypted connections only"),
        ("sslmode=disable", "sécret", "HINT:  Connect with sslmode=require."),
        ("sslmode=require dbname=nope", "sécret", 'database "nope" does not exist'),
        ("sslmode=require dbname=other", "sécret", 'permission denied for database "other"'),
    ],
)  # fmt: skip
def test_who_does_not_get_in_is_told_why(
    guarded: Running, options: str, password: str, says: str
) -> None:
    dsn = f"host=127.0.0.1 port={guarded.port} user=tester dbname=shop {options}"
    done = psql(dsn, "SELECT 1;", PGPASSWORD=password)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_the_right_password_over_tls_gets_in(guarded: Running) -> None:
    dsn = f"host=127.0.0.1 port={guarded.port} user=tester dbname=shop sslmode=require"
    done = psql(dsn, "SELECT current_user;", PGPASSWORD="sécret")
    assert (done.returncode, done.stdout) == (0, "tester\n"), done.stderr


def test_an_unknown_database_is_answered_with_the_names_there_are(served: Running) -> None:
    done = psql(served.dsn.replace("/shop", "/nope"), "SELECT 1;")
    assert "HINT:  This server has other, shop." in done.stderr


# Where an error is, in the text as it was typed


POSITIONS = [
    ("SELECT LLM_FILTER('x', nope) FROM movies", "nope"),
    ("SELECT id,\n  LLM_FILTER('Is it odd?', synopsis) AS f,\n  nope\nFROM movies", "nope"),
    ("SELECT id FROM movies WHERE LLM_FILTER('é ß', title) AND nope > 1", "nope"),
    ("WITH m AS (FROM movies) SELECT LLM('Why?', title) FROM m JOIN nowhere USING (id)", "nowhere"),
    ("SELECT LLM_FILTR('x', title) FROM movies", "LLM_FILTR"),
    ("SELECT 1;SELECT LLM_SCORE('How?', title), nofunction(id) FROM movies", "nofunction"),
]


@pytest.mark.parametrize(("sql", "place"), POSITIONS, ids=[sql[-45:] for sql, _ in POSITIONS])
def test_an_error_is_shown_in_its_place_though_the_statement_was_rewritten(
    served: Running, sql: str, place: str
) -> None:
    before = served.fake.calls
    done = psql(served.dsn, "", "-c", sql)  # one message, and so one text
    line = next(line for line in sql.split("\n") if place in line)
    shown, caret = done.stderr.split("LINE ")[1].split("\n")[:2]
    assert shown.split(": ", 1)[1].removeprefix("...").removesuffix("...") in line
    column = caret.index("^") - len("LINE ")
    assert shown[column:].startswith(place), done.stderr
    assert served.fake.calls == before, "nothing is asked before an error"


# What is too large, or of another kind than it should be


def test_a_huge_statement_is_run(served: Running) -> None:
    done = psql(served.dsn, f"SELECT length('{'é' * 3_000_000}');\n")
    assert done.stdout == "3000000\n", done.stderr[:300]


def test_a_huge_list_of_values_is_run(served: Running) -> None:
    values = ",".join(f"({i}, 'text {i}')" for i in range(20_000))
    done = psql(served.dsn, f"SELECT count(*), sum(a) FROM (VALUES {values}) t(a, b);\n")
    assert done.stdout == "20000|199990000\n", done.stderr[:300]


def test_brackets_in_brackets_are_an_error_and_not_the_end(served: Running) -> None:
    deep = "(" * 3000 + "1" + ")" * 3000
    done = psql(served.dsn, f"SELECT {deep};\nSELECT LLM_FILTER('x', {deep});\nSELECT 'alive';\n")
    assert done.stdout.endswith("alive\n")
    assert "XX000" not in done.stderr


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("SELECT LLM_FILTER('a\\u0000b', title);", "42"),
        ("PREPARE p AS SELECT $1::INTEGER;\nEXECUTE p('x');", "22P02"),
        ("SELECT $1;", "42P02"),
        ("COPY movies (id, title) FROM STDIN;\nx\ty\n\\.\n", "22P02"),
        ("COPY movies (id, title) FROM STDIN;\n1\n\\.\n", "22"),
        ("SELECT LLM_SCORE('How?', title, min := 'x') FROM movies;", "42"),
        ("SET llm_max_calls = 'many';", "22023"),
    ],
)
def test_a_value_of_wrong_type_is_an_error_with_its_state(
    served: Running, script: str, state: str
) -> None:
    done = psql(served.dsn, script + "\nSELECT 'alive';\n")
    assert f"ERROR:  {state}" in done.stderr, done.stderr
    assert done.stdout.endswith("alive\n")


# One side goes away


def test_a_psql_that_is_killed_among_the_rows_leaves_nothing(served: Running) -> None:
    endless = "SELECT repeat('x', 1000), i FROM range(100000000) r(i)"
    command = ["psql", served.dsn, "-X", "-v", "FETCH_COUNT=1000", "-c", endless]
    client = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.read(100_000)
    client.kill()
    client.wait()
    client.stdout.close()
    wait_until(lambda: not served.server.registry.sessions())
    assert psql(served.dsn, "SELECT 'alive';").stdout == "alive\n"


def test_a_psql_that_is_killed_in_mid_question_frees_the_model() -> None:
    with running(fake=FakeProvider(latency=60.0)) as served:
        client = subprocess.Popen(["psql", served.dsn, "-X", "-c", QUESTION])
        wait_until(lambda: served.fake.in_flight)
        client.kill()
        client.wait()
        assert wait_until(lambda: not served.fake.in_flight) < 1
        wait_until(lambda: not served.server.registry.sessions())


class Terminal:
    """psql at a terminal, where Ctrl-C is a key."""

    def __init__(self, dsn: str) -> None:
        self.pid, self._file = pty.fork()
        if self.pid == 0:  # this is psql
            os.execvp("psql", ["psql", dsn, "-X", "-n", "-P", "pager=off"])
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Read until a text is shown."""
        ends = time.monotonic() + seconds
        while text not in self.shown:
            left = max(ends - time.monotonic(), 0)
            assert select.select([self._file], [], [], left)[0], self.shown
            self.shown += os.read(self._file, 65536).decode(errors="replace")

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._file)


@contextmanager
def terminal(dsn: str) -> Iterator[Terminal]:
    opened = Terminal(dsn)
    try:
        opened.wait_for("shop=")
        yield opened
    finally:
        opened.close()


def test_ctrl_c_in_psql_frees_the_model_within_a_second_and_psql_goes_on() -> None:
    with running(fake=FakeProvider(latency=60.0)) as served, terminal(served.dsn) as psql_there:
        psql_there.type(QUESTION + ";\n")
        wait_until(lambda: served.fake.in_flight)
        psql_there.type("\x03")
        assert wait_until(lambda: not served.fake.in_flight) < 1
        psql_there.wait_for("the statement was cancelled")
        psql_there.type("SELECT 6 * 7 AS answer;\n")
        psql_there.wait_for("42")


@contextmanager
def serving(model: FakeServer, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server with its own cache, as a process; yield it and the dsn of its database."""
    database = str(folder / "shop.duckdb")
    command = [sys.executable, "-m", "quackllm", "serve", database, "--port", "0"]
    options = ["--base-url", model.base_url, "--model", "fake-model", "--set", "llm_concurrency=2"]
    environment = {**os.environ, "QUACKLLM_CACHE": str(folder / "cache.sqlite")}
    process = subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stderr is not None
        port = process.stderr.readline().rsplit(":", 1)[1].strip()
        yield process, f"postgresql://tester@127.0.0.1:{port}/shop"
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_ends_in_mid_query_keeps_the_answers(
    tmp_path: Path, how: signal.Signals
) -> None:
    with quackllm.connect(tmp_path / "shop.duckdb", progress=False) as connection:
        connection.execute("CREATE TABLE films AS SELECT 'Film ' || i AS title FROM range(30) r(i)")
    question = "SELECT count(LLM_FILTER('Is it kept?', title)) FROM films"
    with FakeServer(latency=0.2) as model:
        with serving(model, tmp_path) as (process, dsn):
            asking = ["psql", dsn, "-X", "-A", "-t", "-c", question]
            client = subprocess.Popen(asking, stderr=subprocess.PIPE, text=True)
            wait_until(lambda: model.calls >= 8, 30)
            process.send_signal(how)
            told = client.communicate(timeout=20)[1]
            assert client.returncode != 0
            status = process.wait(20)
            if how is signal.SIGTERM:
                assert status == 0, "a clean shutdown"
                assert "canceling statement" in told or "terminating connection" in told, told
        asked = model.calls
        assert asked < 30
        with serving(model, tmp_path) as (_, dsn):
            done = psql(dsn, question + ";\n")
            assert done.stdout == "30\n", done.stderr
        again = model.calls - asked
        assert again <= 30 - asked + 4, "only what had not come is asked"
