"""SET, RESET, CREATE MODEL and what can be SELECTed of the engine; keys are shown nowhere."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.introspection import TABLES
from quackllm.engine.settings import Settings
from quackllm.errors import BindError, ServerFailed, SettingError
from quackllm.testing import FakeProvider, FakeServer, Fault

SECRET = "sk-do-not-show-1234"


def one(con: Connection, sql: str) -> Any:
    row = con.execute(sql).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("statement", "setting", "value"),
    [
        ("SET llm_model = 'q'", "model", "q"),
        ("set LLM_MODEL to 'q'", "model", "q"),
        ("SET llm_model TO qwen", "model", "qwen"),
        ('SET llm_model = "a ""b"""', "model", 'a "b"'),
        ("SET SESSION llm_call_timeout = 2.5", "call_timeout", 2.5),
        ("SET GLOBAL llm_call_timeout = 2.5", "call_timeout", 2.5),
        ("PRAGMA llm_call_timeout = 2.5", "call_timeout", 2.5),
        ("SET llm_call_timeout = 1 + 1", "call_timeout", 2.0),
        ("SET /* why */ llm_concurrency -- here\n = 3 -- there", "concurrency", 3),
        ("SET llm_model = concat('a', 'b')", "model", "ab"),
        ("SET llm_cache = off", "cache", False),
        ("SET llm_cache = 'false'", "cache", False),
        ("SET llm_on_error = ERROR", "on_error", "error"),
        ("SET llm_model = 'q'; RESET llm_model", "model", None),
        ("SET llm_model = 'q'; SET llm_model = DEFAULT", "model", None),
        ("SET llm_model = 'q'; SET llm_model = NULL", "model", None),
        ("SET llm_disabled_rules = 'stage_calls'", "disabled_rules", "stage_calls"),
    ],
)
def test_set_and_reset(con: Connection, statement: str, setting: str, value: Any) -> None:
    con.execute(statement)
    assert getattr(con.llm_settings, setting) == value
    shown = one(con, f"SELECT current_setting('llm_{setting}')")
    assert shown == con.llm_settings.shown(setting)
    assert one(con, f"SELECT value FROM llm_settings() WHERE name = 'llm_{setting}'") == shown


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SET llm_call_timeout = 'abc'", "llm_call_timeout must be a number of seconds above 0"),
        ("SET llm_call_timeout = 0", "above 0"),
        ("SET llm_call_timeout = true", "above 0"),
        ("SET llm_concurrency = 4.5", "must be a whole number, 1 or more"),
        ("SET llm_concurrency = 'inf'::DOUBLE", "must be a whole number, 1 or more"),
        ("SET llm_concurrency = 'nan'::DOUBLE", "must be a whole number, 1 or more"),
        ("SET llm_concurrency = 0", "1 or more"),
        ("SET llm_cache = 'maybe'", "must be true or false"),
        ("SET llm_on_error = stop", "must be 'null' or 'error'"),
        ("SET llm_model = ''", "must be a text"),
        ("SET llm_model = 5", "must be a text"),
        ("SET llm_base_url = 'http://a/v1, b/v1'", "of several, each begins with http://"),
        ("SET llm_base_url = 'localhost:8000/v1'", "begin with http:// or https://"),
        ("SET llm_base_url = 'ftp://a/v1'", "begin with http:// or https://"),
        ("SET llm_disabled_rules = 'nope'", "no rule nope; the rules are"),
        ("SET llm_modle = 'x'", 'Did you mean: "llm_model"'),
        ("RESET llm_modle", 'Did you mean: "llm_model"'),
        ("SET llm_zzz = 1", "llm_settings()"),
        ("SELECT current_setting('llm_modle')", 'Did you mean: "llm_model"'),
    ],
)
def test_wrong_settings_say_what_would_be_right(
    con: Connection, statement: str, words: str
) -> None:
    before = con.llm_settings
    with pytest.raises(SettingError) as found:
        con.execute(statement)
    assert words in str(found.value)
    assert con.llm_settings == before
    assert con.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("statement", ["SET llm_model =", "SET llm_", "RESET llm_model 5"])
def test_a_command_that_cannot_be_read_is_told(con: Connection, statement: str) -> None:
    with pytest.raises(BindError, match="Parser Error: expected SET"):
        con.execute(statement)


def test_current_setting_is_replaced_only_where_it_is_called(con: Connection) -> None:
    con.execute("SET llm_model = 'it''s'")
    row = con.execute(
        "SELECT current_setting ( 'LLM_model' ) || '!', $$current_setting('llm_model')$$, "
        "'current_setting(''llm_model'')' -- current_setting('llm_modle')"
    ).fetchone()
    assert row == ("it's!", "current_setting('llm_model')", "current_setting('llm_model')")
    assert one(con, "SELECT LLM_FILTER('x', current_setting('llm_model'))") in (True, False)


def test_every_setting_is_listed_with_a_description(con: Connection) -> None:
    rows = con.execute("FROM llm_settings()").fetchall()
    assert [row[0] for row in rows] == [f"llm_{field.name}" for field in fields(Settings)]
    assert all(row[2] for row in rows)


# Models


def test_models_are_created_replaced_and_dropped(con: Connection) -> None:
    con.execute("CREATE MODEL fast (model 'm1', base_url 'http://localhost:1/v1')")
    con.execute("CREATE MODEL IF NOT EXISTS FAST (model 'other')")
    con.execute("CREATE MODEL \"odd \"\"name\" (model 'it''s')")
    listed = "SELECT name, model, endpoint FROM llm_models() WHERE name IS NOT NULL ORDER BY 1"
    assert con.execute(listed).fetchall() == [
        ("fast", "m1", "http://localhost:1/v1"),
        ('odd "name', "it's", None),
    ]
    con.execute("CREATE OR REPLACE MODEL fast (model 'm2')")
    con.execute('DROP MODEL "odd ""name"; DROP MODEL IF EXISTS none')
    assert con.execute(listed).fetchall() == [("fast", "m2", None)]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE MODEL fast (model 'm2')", 'Model with name "fast" already exists'),
        ("CREATE MODEL fast (model 'm2')", "CREATE OR REPLACE MODEL fast (...) gives it another"),
        ("DROP MODEL none", 'Model with name "none" does not exist'),
        ("CREATE MODEL m (modle 'x')", "unknown key modle, did you mean model?"),
        ("CREATE MODEL m", "expected CREATE MODEL name (model"),
        ("DROP MODEL", "expected CREATE MODEL name (model"),
        ("CREATE MODEL m (model 'x',)", "key 'value' pairs"),
        ("CREATE MODEL m (model = 'x')", "separated by commas at model: model '...', without ="),
        ("CREATE MODEL m (base_url 'localhost:8000')", "base_url must begin with http:// or"),
    ],
)
def test_wrong_model_statements_say_what_would_be_right(
    con: Connection, statement: str, words: str
) -> None:
    con.execute("CREATE MODEL fast (model 'm1')")
    with pytest.raises(BindError) as found:
        con.execute(statement)
    assert words in str(found.value)


def test_two_named_models_in_one_statement() -> None:
    with (
        FakeServer(models=("a", "b"), answer=lambda _: "one") as server,
        quackllm.connect(base_url=server.base_url, model="a", progress=False) as con,
    ):
        con.execute("CREATE MODEL first (model 'a'); CREATE MODEL second (model 'b')")
        con.execute(
            "SELECT LLM('x', 'y', model := 'first'), LLM('x', 'y', model := 'second'), "
            "LLM('x', 'y')"
        ).fetchall()
        asked = [request.body["model"] for request in server.received if request.method == "POST"]
        assert sorted(asked) == ["a", "b"]


# Keys


def test_a_key_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    statements = [
        f"SET llm_api_key = '{SECRET}'",
        f"SET llm_api_key '{SECRET}'",
        f"SET llm_api_key = {SECRET}",
        f"SET llm_api_key = '{SECRET}",
        f"SET llm_api_key = nope('{SECRET}')",
        f"CREATE MODEL k (model 'fake-model', api_key '{SECRET}')",
        f"CREATE MODEL k (api_key '{SECRET}')",
        f"CREATE MODEL m (api_key \"{SECRET}\")",
        f"CREATE MODEL m (api_key '{SECRET}' model 'x')",
        f"CREATE MODEL m (api_key '{SECRET}",
        f"CREATE MODEL m api_key '{SECRET}'",
        f"EXPLAIN SET llm_api_key = '{SECRET}'; SELECT LLM('x', 'y', model := 'k')",
        "SELECT LLM('x', 'y')",
        "SELECT LLM('x', 'y', model := 'k')",
        "SELECT current_setting('llm_api_key')",
        "FROM llm_settings()", "FROM llm_models()", "FROM llm_queries()", "FROM llm_errors()",
    ]  # fmt: skip
    seen: list[str] = []
    with (
        FakeServer(api_key="another") as server,
        quackllm.connect(base_url=server.base_url, model="fake-model", progress=False) as con,
    ):
        for sql in statements[:-7]:
            try:
                con.execute(sql)
            except duckdb.Error as error:
                if not sql.startswith("EXPLAIN"):  # DuckDB's own complaint about its own syntax
                    seen.append(str(error))
        for sql in statements[-7:]:
            try:
                seen.append(repr(con.execute(sql).fetchall()))
            except duckdb.Error as error:
                seen.append(str(error))
        engine = con.llm_engine
        seen += [repr(con.llm_settings), repr(engine.models), repr(list(engine.history))]
        assert any(request.headers.get("authorization") == f"Bearer {SECRET}"
                   for request in server.received)  # fmt: skip
    assert len(seen) >= 15
    assert all(SECRET not in text for text in [*seen, caplog.text])


def test_a_key_may_come_as_a_parameter(con: Connection) -> None:
    con.execute("SET llm_api_key = ?", [SECRET])
    assert con.llm_settings.api_key is not None
    assert con.llm_settings.api_key.reveal() == SECRET
    con.execute("CREATE MODEL m (model 'x', api_key $key)", {"key": SECRET})
    key = con.llm_engine.models["m"].api_key
    assert key is not None and key.reveal() == SECRET


# What the engine knows, as tables


def test_introspection_reads_like_tables(con: Connection) -> None:
    con.execute("SELECT LLM('x', title) FROM movies WHERE id < 3").fetchall()
    assert one(con, "SELECT calls FROM llm_queries()") == 3
    assert one(con, "WITH q AS (FROM llm_queries()) SELECT count(*) FROM q WHERE calls > 2") == 1
    assert one(con, "SELECT count(*) FROM llm_functions() WHERE name LIKE 'llm%'") >= 8
    assert one(con, "SELECT list_contains(options, 'model') FROM llm_functions() LIMIT 1") is True
    assert con.sql("FROM llm_functions()").filter("name = 'llm'").count("*").fetchall() == [(1,)]
    assert con.cursor().execute("SELECT count(*) FROM llm_queries()").fetchall() == [(1,)]
    con.execute("CREATE TABLE kept AS FROM llm_queries()")
    assert one(con, "SELECT count(*) FROM kept") == 1
    assert one(con, "SELECT 'FROM llm_queries()'") == "FROM llm_queries()"
    assert con.execute("SELECT sql FROM llm_queries() JOIN movies ON id = statement").fetchall()
    assert (
        con.execute("SHOW TABLES").fetchall()
        == con.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
    )


@pytest.mark.parametrize("name", [table.name for table in TABLES])
def test_introspection_follows_a_result_that_nobody_read(con: Connection, name: str) -> None:
    con.execute("SELECT 1")
    assert len(con.execute(f"FROM {name}()").description) >= 3
    con.begin()
    con.execute("CREATE TABLE kept (i INTEGER)")
    con.execute("FROM range(100000)")
    con.execute(f"FROM {name}()").fetchall()
    con.commit()
    assert con.execute("FROM kept").fetchall() == []


def test_failures_are_rows_joined_to_their_statement() -> None:
    fake = FakeProvider(faults=[Fault(error=ServerFailed, containing="boom")])
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute("SELECT LLM('x', v) FROM (VALUES ('boom \"1\" é'), ('fine')) t(v)").fetchall()
        row = con.execute(
            "SELECT q.calls, q.failures, e.function, e.cause, e.preview, length(e.fields_hash) "
            "FROM llm_errors() e JOIN llm_queries() q USING (statement)"
        ).fetchone()
        assert row == (2, 1, "llm", "server error", '{"v":"boom \\"1\\" é"}', 16)


def test_introspection_of_nothing_has_its_types(con: Connection) -> None:
    described = con.execute("DESCRIBE FROM llm_errors()").fetchall()
    assert ("statement", "BIGINT") in [row[:2] for row in described]
    assert con.execute("FROM llm_errors()").fetchall() == []
