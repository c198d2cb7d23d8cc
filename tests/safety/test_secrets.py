"""A key that was given anywhere is found nowhere: it is planted, and everything is searched."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.introspection import TABLES
from quackllm.engine.providers.config import Address, ProviderConfig, Secret
from quackllm.errors import AuthenticationFailed, BindError, CallError, SettingError
from quackllm.testing import FakeServer, HttpFault

CANARY = "sk-canary-4f1d"
ENCODED = "dXNlcjpzay1jYW5hcnktNGYxZA"  # user:sk-canary-4f1d in base64, without its padding
Plant = Callable[[Connection, FakeServer], None]


def by_setting(con: Connection, server: FakeServer) -> None:
    con.execute(f"SET llm_api_key = '{CANARY}'")
    con.execute(f"SET llm_base_url = '{server.base_url}'")


def by_parameter(con: Connection, server: FakeServer) -> None:
    con.execute("SET llm_api_key = $key", {"key": CANARY})
    con.execute(f"SET llm_base_url = '{server.base_url}'")


def by_variable(con: Connection, server: FakeServer) -> None:
    con.execute("SET VARIABLE key = $key", {"key": CANARY})
    con.execute("SET llm_api_key = getvariable('key'); RESET VARIABLE key")
    con.execute(f"SET llm_base_url = '{server.base_url}'")


def in_a_script(con: Connection, server: FakeServer) -> None:
    con.execute(
        f"SET llm_base_url = '{server.base_url}'; SET llm_api_key = '{CANARY}'; "
        "SELECT LLM('x', 'in a script')"
    )


def by_environment(con: Connection, server: FakeServer) -> None:
    con.llm_engine._environ = {
        "QUACKLLM_CACHE": ":memory:",
        "OPENAI_API_KEY": CANARY,
        "OPENAI_BASE_URL": server.base_url,
    }


def by_model(con: Connection, server: FakeServer) -> None:
    con.execute(
        f"CREATE MODEL mine (model 'fake', base_url '{server.base_url}', api_key '{CANARY}')"
    )
    con.execute("SET llm_model = 'mine'")


def by_secret(con: Connection, server: FakeServer) -> None:
    con.execute(f"CREATE SECRET k (TYPE llm, KEY '{CANARY}', SCOPE '{server.base_url}')")
    con.execute(f"SET llm_base_url = '{server.base_url}'")


def by_user_and_password(con: Connection, server: FakeServer) -> None:
    url = server.base_url.replace("//", f"//user:{CANARY}@")
    con.execute(f"SET llm_base_url = '{url}'")


def by_user_and_password_of_a_model(con: Connection, server: FakeServer) -> None:
    url = server.base_url.replace("//", f"//user:{CANARY}@")
    con.execute(f"CREATE MODEL mine (model 'fake', base_url '{url}')")
    con.execute("SET llm_model = 'mine'")


def by_user_and_password_of_the_environment(con: Connection, server: FakeServer) -> None:
    url = server.base_url.replace("//", f"//user:{CANARY}@")
    con.llm_engine._environ = {"QUACKLLM_CACHE": ":memory:", "OPENAI_BASE_URL": url}


PLANTS = [
    by_setting, by_parameter, by_variable, in_a_script, by_environment, by_model, by_secret,
    by_user_and_password, by_user_and_password_of_a_model, by_user_and_password_of_the_environment,
]  # fmt: skip

ECHO = f'{{"error": {{"message": "key {CANARY} or user:{CANARY} or Basic {ENCODED}==, no"}}}}'
FAULTS = {
    "answers": [],
    "refuses the key": [HttpFault(status=401, body=ECHO)],
    "fails": [HttpFault(status=500, body=ECHO)],
    "finds fault": [HttpFault(status=400, body=ECHO)],
    "is broken": [HttpFault(body=f"<html>{CANARY}</html>")],
    "sends no completion": [HttpFault(body=f'{{"key": "{CANARY} {ENCODED}"}}')],
    "cuts off": [HttpFault.reset()],
    "has no such model": [HttpFault(status=404, body=ECHO)],
}
STATEMENTS = [
    "SELECT v, LLM('x', v) FROM t",
    "SELECT v, LLM('x', v, on_error := 'error') FROM t",
    "CREATE OR REPLACE TABLE made AS SELECT list_transform([v], v -> LLM('y', v)) AS a FROM t",
    "EXPLAIN SELECT v, LLM('z', v) FROM t",
    "EXPLAIN VERBOSE SELECT v, LLM('z', v) FROM t",
    "EXPLAIN ANALYZE SELECT v, LLM('z', v) FROM t",
    "EXPLAIN (ANALYZE, FORMAT json) SELECT v, LLM('z', v) FROM t",
    "CREATE OR REPLACE VIEW seen AS SELECT LLM('w', v) FROM t; FROM seen",
    f"SELECT '{CANARY}', LLM('a statement that holds the key', v) FROM t",
    "SELECT LLM('x', nonsense) FROM t",
    "SET llm_api_key = 'a' || 'b'",
    "SELECT current_setting('llm_api_key'), current_setting('llm_base_url')",
]


class Finds:
    """Everything that was seen, by where, to be searched for the key."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def add(self, place: str, *things: Any) -> None:
        self.texts.extend((place, f"{thing}\n{thing!r}") for thing in things)

    def crash(self, place: str, error: BaseException) -> None:
        """Add what a crash report would hold: the chain of errors and all local variables."""
        assert error.__traceback__ is not None
        ours = error.__traceback__.tb_next  # below the test, whose variables hold the key
        dump = traceback.TracebackException(type(error), error, ours, capture_locals=True)
        self.add(place, str(error), "".join(dump.format(chain=True)))

    def leaks(self, key: str) -> list[str]:
        return [
            f"{place}: {text[max(text.find(key) - 200, 0) :][:400]}"
            for place, text in self.texts
            if key in text
        ]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All that is written goes below here: database, cache, temporary files."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    yield tmp_path


EVERY = [(plant, fault) for plant in PLANTS for fault in FAULTS]
QUICK = [
    (by_setting, "answers"),
    (in_a_script, "refuses the key"),
    (by_model, "sends no completion"),
    (by_secret, "fails"),
    (by_user_and_password_of_the_environment, "refuses the key"),
]


@pytest.mark.parametrize(
    ("plant", "fault"),
    [pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow) for each in EVERY],
)
def test_a_planted_key_is_nowhere(
    plant: Plant,
    fault: str,
    files: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    finds = Finds()
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "aiohttp", "asyncio", "quackllm"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    with (
        FakeServer(faults=FAULTS[fault]) as server,
        quackllm.connect(
            str(files / "x.duckdb"),
            progress=False,
            concurrency=2,
            max_retries=0,
            cache_path=str(files / "answers.sqlite"),
        ) as con,
    ):
        con.llm_engine.events.listeners.append(lambda event: finds.add("event", event))
        con.execute("CALL enable_logging('QueryLog')")
        with suppress(duckdb.Error):  # the script has a call in it
            plant(con, server)
        con.execute("CREATE TABLE t AS SELECT 'row ' || i AS v FROM range(3) r(i)")
        for sql in STATEMENTS:
            shown = sql.replace(CANARY, "the key")
            holds_it = CANARY in sql
            try:
                rows = con.execute(sql).fetchall()
            except duckdb.Error as error:
                if holds_it:
                    finds.add(f"error of {shown}", error)
                else:
                    finds.crash(f"error of {shown}", error)
            else:
                finds.add(f"result of {shown}", *(() if holds_it else rows))
        assert any(CANARY in str(received.headers) or ENCODED in str(received.headers)
                   for received in server.received), "the key was used"  # fmt: skip
        search(con, finds)
        con.execute("CHECKPOINT")
    finds.add("log", *(f"{record.name}: {record.getMessage()}" for record in caplog.records))
    finds.add("output", *capfd.readouterr())
    assert (files / "answers.sqlite").stat().st_size > 0
    for path in files.rglob("*"):
        if path.is_file():
            finds.add(str(path), path.read_bytes().decode("latin-1"))
    assert len(finds.texts) > 60
    assert finds.leaks(CANARY) == []
    if "password" in plant.__name__:
        assert finds.leaks(ENCODED) == []


def search(con: Connection, finds: Finds) -> None:
    """Look at everything that a connection can be asked for."""
    ours = [f"{table.name}()" for table in TABLES]
    for table in (*ours, "duckdb_settings()", "duckdb_secrets()", "duckdb_variables()",
                  "duckdb_views()", "duckdb_functions()"):  # fmt: skip
        finds.add(table, *con.execute(f"FROM {table}").fetchall())
    logged = con.execute("SELECT message FROM duckdb_logs").fetchall()
    # A statement of the person's that holds the key as data is DuckDB's to log.
    finds.add("duckdb_logs", *(row for row in logged if "holds the key" not in str(row)))
    engine = con.llm_engine
    finds.add("reprs", con, engine, con.llm_settings, engine.models, engine.secrets)
    for provider in engine.opened:
        finds.add("provider", provider, vars(provider))
    finds.add(
        "configs", *(config for config, _ in engine._opened), *engine.history, *engine.failures
    )
    kinds = (Engine, Address, ProviderConfig, Secret)
    finds.add("objects", *(thing for thing in gc.get_objects() if type(thing) in kinds))


@pytest.mark.parametrize(
    "sql",
    [
        f"SET llm_api_key = '{CANARY}' || 'x'",
        f"SET llm_api_key = concat('{CANARY}')",
        f"SET llm_api_key = '{CANARY}",
        f"SELECT 1; SET llm_api_key = '{CANARY}",
        f"CREATE MODEL m (model 'x', api_key '{CANARY}' 'y')",
        f"CREATE MODEL m (model 'x', api_key '{CANARY}', colour 'red')",
        f"CREATE MODEL m (model 'x', base_url 'http://u:{CANARY}@h:port/v1')",
        f"SET llm_base_url = 'http://u:{CANARY}@h:port/v1'",
        f"CREATE SECRET (TYPE openai, KEY '{CANARY}', COLOUR 'red')",
        f"CREATE SECRET (TYPE llm, KEY '{CANARY}')",
        f"CREATE SECRET (TYPE llm, KEY '{CANARY}' 'http://h')",
        f"CREATE PERSISTENT SECRET s (TYPE openai, KEY '{CANARY}')",
        f"CREATE SECRET s IN local_file (TYPE openai, KEY '{CANARY}')",
        f"CREATE SECRET s (TYPE openai, KEY '{CANARY}",
    ],
)
def test_a_wrong_statement_with_a_key_does_not_repeat_it(sql: str) -> None:
    with quackllm.connect() as con:
        con.execute("CALL enable_logging('QueryLog')")
        with pytest.raises((BindError, SettingError)) as raised:
            con.execute(sql)
        assert CANARY not in str(raised.value)
        assert CANARY not in str(con.execute("SELECT message FROM duckdb_logs").fetchall())


def used_key(server: FakeServer) -> str | None:
    return server.received[-1].headers.get("authorization")


def test_a_secret_is_for_its_scope_and_shown_without_its_key() -> None:
    with FakeServer() as here, FakeServer() as there, quackllm.connect(progress=False) as con:
        con.execute(f"CREATE SECRET a (TYPE llm, KEY 'key of here', SCOPE '{here.base_url}')")
        con.execute("CREATE SECRET o (TYPE openai, KEY 'sk-openai')")
        for server, key in ((here, "Bearer key of here"), (there, "Bearer none")):
            con.execute(f"SET llm_base_url = '{server.base_url}'")
            con.execute("SELECT LLM('x')")
            assert used_key(server) == key
        assert con.execute("FROM llm_secrets()").fetchall() == [
            ("a", "llm", here.base_url, "***"),
            ("o", "openai", "https://api.openai.com", "***"),
        ]
        con.execute(f"SET llm_base_url = '{here.base_url}'")
        con.execute("CREATE OR REPLACE SECRET a (TYPE llm, KEY 'new', "
                    f"BASE_URL '{here.base_url.removesuffix('/v1')}')")  # fmt: skip
        con.execute("SELECT LLM('y')")
        assert used_key(here) == "Bearer new"
        con.execute("SET llm_api_key = 'of the setting'")
        con.execute("SELECT LLM('z')")
        assert used_key(here) == "Bearer of the setting"
        con.execute("RESET llm_api_key; DROP SECRET a")
        con.execute("SELECT LLM('w')")
        assert used_key(here) == "Bearer none"


def test_secrets_have_the_statements_of_duckdb_and_leave_it_its_own() -> None:
    with quackllm.connect() as con:
        con.execute("CREATE SECRET s (TYPE openai, KEY 'sk-1')")
        con.execute("CREATE SECRET IF NOT EXISTS S (TYPE openai, KEY 'sk-2')")
        with pytest.raises(BindError, match="already exists"):
            con.execute("CREATE TEMPORARY SECRET s (TYPE openai, KEY 'sk-3')")
        con.execute("CREATE SECRET (TYPE openai, KEY $key)", {"key": "sk-4"})
        con.execute("CREATE SECRET web (TYPE http, BEARER_TOKEN 'a, TYPE llm', SCOPE 'http://h')")
        names = "SELECT name FROM llm_secrets() ORDER BY ALL"
        assert con.execute(names).fetchall() == [("__default_openai",), ("s",)]
        assert con.execute("SELECT name FROM duckdb_secrets()").fetchall() == [("web",)]
        con.execute("DROP SECRET s; DROP SECRET IF EXISTS s; DROP SECRET web")
        assert con.execute(names).fetchall() == [("__default_openai",)]
        with pytest.raises(duckdb.Error, match="non-existent secret"):
            con.execute("DROP SECRET s")
        with pytest.raises(duckdb.Error, match="Secret type"):
            con.execute("CREATE SECRET s (TYPE nonsense, KEY 'x')")


@pytest.mark.parametrize(
    ("url", "scope", "within"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com", True),
        ("https://api.openai.com/v1", "https://api.openai.com/v1/", True),
        ("https://api.openai.com:443/v1", "https://api.openai.com", True),
        ("https://api.openai.com.evil.example/v1", "https://api.openai.com", False),
        ("https://api.openai.com@evil.example/v1", "https://api.openai.com", False),
        ("http://api.openai.com/v1", "https://api.openai.com", False),
        ("https://api.openai.com:8443/v1", "https://api.openai.com", False),
        ("https://h/v1", "https://h/v10", False),
        ("https://h/v10", "https://h/v1", False),
    ],
)
def test_what_lies_within_a_scope(url: str, scope: str, within: bool) -> None:
    assert Address.parse(url).within(Address.parse(scope)) is within


def test_an_address_shows_no_credentials() -> None:
    address = Address.parse("https://user:secret@host:8000/v1?key=secret#secret")
    assert str(address) == "https://***@host:8000/v1"
    assert "secret" not in repr(address)
    assert "secret" not in repr(ProviderConfig(base_url="https://user:secret@host/v1"))
    assert address == Address.parse("https://user:secret@host:8000/v1")


def test_a_key_in_an_error_of_the_statement_is_blotted_out_of_the_history() -> None:
    with FakeServer(faults=[HttpFault(status=401, body=ECHO)]) as server:
        con = quackllm.connect(base_url=server.base_url, api_key=CANARY, progress=False)
        with con, pytest.raises((AuthenticationFailed, CallError)):
            con.execute(f"SELECT LLM('{CANARY}')")
        sql, error = con.llm_engine.history[-1].sql, con.llm_engine.history[-1].error
        assert sql == "SELECT LLM('***')"
        assert error is not None and "***" in error and CANARY not in error
