"""The engine behind the DuckDB extension, spoken to in frames: calls, statements, bad input."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from quackllm.engine.providers.base import Request
from quackllm.server.duckdb_shell import frames
from quackllm.server.duckdb_shell.frames import Closed
from quackllm.server.duckdb_shell.session import Session
from quackllm.testing import FakeServer
from quackllm.udfs.base import Choice
from tests.server.duckdb_shell.shell import EngineError, Shell, connect, engine


def answer(request: Request) -> str:
    """'true' where a value begins with yes, or the fields."""
    good = '"yes' in request.fields
    return ("true" if good else "false") if isinstance(request.answer, Choice) else request.fields


@pytest.fixture(scope="module")
def model() -> Iterator[FakeServer]:
    with FakeServer(flavor="vllm", answer=answer) as server:
        yield server


@pytest.fixture(scope="module")
def path(model: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", model.base_url)
        patch.setenv("OPENAI_API_KEY", "none")
        patch.setenv("QUACKLLM_CACHE", ":memory:")
        with engine(tmp_path_factory.mktemp("e")) as socket_path:
            yield socket_path


@pytest.fixture
def shell(path: Path) -> Iterator[Shell]:
    with Shell(path) as one:
        one.duckdb.execute(
            "CREATE TABLE t AS SELECT i AS id, ['yes ', 'no '][i % 2 + 1] || i AS name "
            "FROM range(6) r(i)"
        )
        yield one


def test_a_call_answers_each_row_of_a_vector(shell: Shell) -> None:
    found = shell.call("llm_filter", "'Good?', name", "FROM t ORDER BY id")
    assert found == ["true", "false"] * 3


def test_equal_rows_are_asked_once(shell: Shell, model: FakeServer) -> None:
    before = model.calls
    assert len(shell.call("llm", "'Once?', i % 3", "FROM range(2048) r(i)")) == 2048
    assert model.calls == before + 3


def test_rows_with_different_prompts_are_put_back_in_their_order(shell: Shell) -> None:
    prompts = "'Say ' || (i % 3), i"
    found = shell.call("llm", prompts, "FROM range(30) r(i)")
    assert found == [f'{{"value":{i}}}' for i in range(30)]


def test_an_empty_vector_has_no_answers(shell: Shell, model: FakeServer) -> None:
    before = model.calls
    assert shell.call("llm_filter", "'Good?', name", "FROM t WHERE false") == []
    assert model.calls == before


@pytest.mark.parametrize("value", ["NULL", "NULL::INTEGER", "{'a': NULL, 'b': NULL}"])
def test_null_is_answered_by_null_without_a_call(
    shell: Shell, model: FakeServer, value: str
) -> None:
    before = model.calls
    assert shell.call("llm", f"'Say', {value}") == [None]
    assert model.calls == before


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("true", "true"),
        ("-12.340::DECIMAL(10, 3)", "-12.34"),
        ("'é' || chr(0) || '🦆'", '"é\\u0000🦆"'),
        ("[1, NULL]", "[1,null]"),
        ("MAP {'k': [DATE '2024-01-02']}", '{"k":["2024-01-02"]}'),
        ("'{\"x\": [1]}'::JSON", '{"x":[1]}'),
        ("'y'::ENUM ('x', 'y')", '"y"'),
        ("170141183460469231731687303715884105727::HUGEINT", "17014118346046923173168730371588410"),
        ("array_value(1, 2)", "[1,2]"),
        ("TIMESTAMP '2024-01-02 03:04:05.678901'", "2024-01-02 03:04:05.678901"),
        ("repeat('x', 10000)", "x" * 10000),
    ],
)
def test_values_are_shown_as_they_are_in_a_planned_statement(
    shell: Shell, sql: str, shown: str
) -> None:
    [native] = shell.call("llm", f"'Say', {{'v': {sql}}}")
    [(planned,)] = shell.run(f"SELECT LLM('Say', v) AS a FROM (SELECT {sql} AS v)")
    assert native == planned
    assert shown in native


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("llm_nope", "'a', 'b'", "unknown function LLM_NOPE"),
        ("llm_filter", "NULL, 'b'", "prompt must be a text"),
        ("llm_filter", "'alone'", "LLM_FILTER"),
        ("llm_classify", "'x', 3", "labels must be a list"),
        ("llm_classify", "'x', ['a'], 1", "too many arguments"),
        ("llm", "'a', {'v': 1}, {'v': 2}", "two arguments are called v"),
        ("llm", "'a', 'b', {'llm_options': {'modle': 'x'}}", "did you mean model?"),
        ("llm_set", "'llm_modle', 'x'", "llm_modle"),
        ("llm_set", "'threads', 1", "no setting of quackllm"),
        ("llm_set", "'llm_model'", "two arguments"),
    ],
)
def test_errors_are_of_the_engine_and_the_connection_goes_on(
    shell: Shell, function: str, arguments: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message.replace("?", r"\?")):
        shell.call(function, arguments)
    assert shell.call("llm_filter", "'Good?', 'yes'") == ["true"]


def test_a_statement_is_planned_over_the_shells_tables(shell: Shell, model: FakeServer) -> None:
    sql = "SELECT id FROM t WHERE LLM_FILTER('Planned?', name) AND id > 1 ORDER BY id"
    before = model.calls
    assert shell.describe(sql) == [("id", "BIGINT")]
    assert model.calls == before
    assert shell.run(sql) == [(2,), (4,)]
    assert model.calls == before + 4


def test_only_columns_that_are_named_are_fetched(shell: Shell) -> None:
    shell.duckdb.execute("CREATE TABLE wide AS SELECT 1 AS a, error('read') AS b FROM range(0)")
    shell.duckdb.execute("CREATE VIEW fails AS SELECT 1 AS a, error('b was read')::VARCHAR AS b")
    assert shell.run("SELECT a FROM fails") == [(1,)]
    with pytest.raises(EngineError, match="b was read"):
        shell.run("SELECT * FROM fails")


def test_explain_of_a_view_that_calls_a_model_reads_none_of_its_rows(shell: Shell) -> None:
    shell.duckdb.execute("CREATE MACRO llm(x) AS error('a model was called')::VARCHAR")
    shell.duckdb.execute("CREATE VIEW rated AS SELECT llm(name) AS a FROM t")
    plan = shell.run("EXPLAIN SELECT LLM('Say', a) FROM rated")
    assert any("LLM" in line for (line,) in plan)
    with pytest.raises(EngineError, match="a model was called"):
        shell.run("SELECT LLM('Say', a) FROM rated")


def test_more_rows_than_a_vector_holds_come_in_parts(shell: Shell) -> None:
    shell.duckdb.execute("CREATE TABLE many AS SELECT i FROM range(5000) r(i)")
    assert sum(row[0] for row in shell.run("SELECT i FROM many")) == 4999 * 2500


def test_a_table_that_a_table_function_names_is_fetched(shell: Shell) -> None:
    found = shell.run(
        "SELECT id FROM llm_search('t', 'name', 'yes', mode := 'lexical', k := 2) ORDER BY rank"
    )
    expected = "SELECT id FROM t WHERE name LIKE 'yes%' ORDER BY id LIMIT 2"
    assert found == shell.duckdb.execute(expected).fetchall() != []


def test_settings_are_remembered_for_another_engine(path: Path, shell: Shell) -> None:
    assert shell.call("llm_set", "'llm_concurrency', 7") == ["llm_concurrency"]
    shell.run("SET llm_reorder = false")
    assert shell.remembered == ["SET llm_concurrency = '7'", "SET llm_reorder = false"]
    value = "SELECT value FROM llm_settings() WHERE name = 'llm_concurrency'"
    with Shell(path, shell.remembered) as again, Shell(path) as other:
        assert again.run(value) == [("7",)]
        assert other.run(value) != [("7",)]


def test_another_version_is_refused(path: Path) -> None:
    with connect(path) as connection:
        frames.send(connection, frames.HELLO, b"\xff")
        kind, reader = frames.receive(connection)
        assert kind == frames.ERROR
        assert "different versions" in reader.text()
        with pytest.raises(Closed):
            frames.receive(connection)


def test_a_message_that_is_too_long_ends_its_connection_only(path: Path, shell: Shell) -> None:
    with connect(path) as connection:
        connection.sendall(b"\xff\xff\xff\xffH")
        with pytest.raises(Closed):
            frames.receive(connection)
    assert shell.call("llm_filter", "'Good?', 'yes'") == ["true"]


def test_a_fault_is_logged_by_its_place_without_what_it_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message may hold rows and keys, and the log is a file that others read."""

    key = "sk-of-somebody"

    def fail(*_: object) -> None:
        raise RuntimeError(key)

    monkeypatch.setattr(Session, "describe", fail)
    with Shell(path) as one, pytest.raises(Closed):
        one.describe("SELECT 1")
    assert "RuntimeError" in caplog.text
    assert "in _answer" in caplog.text
    assert key not in caplog.text


def test_malformed_messages_are_refused_and_others_go_on(path: Path, shell: Shell) -> None:
    chance = random.Random(7)
    whole = frames.text("llm") + frames.u32(1) + frames.text("") + bytes([17]) + frames.u32(1)
    whole += b"\0" + frames.u32(0) + frames.u32(2) + b"hi"
    requests = [frames.CALL, frames.BIND, frames.RUN, frames.QUERY, b"?", frames.HELLO]
    fuzzer = Shell(path)
    for _ in range(1000):
        payload = bytearray(whole if chance.random() < 0.7 else chance.randbytes(40))
        for _ in range(chance.randint(1, 4)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
        sent = bytes(payload[: chance.randint(0, len(payload))])
        try:
            fuzzer.request(chance.choice(requests), sent)
        except EngineError:
            continue
        except Closed:
            fuzzer.duckdb.close()
            fuzzer = Shell(path)
    fuzzer.socket.close()
    assert shell.call("llm_filter", "'Good?', 'yes'") == ["true"]


def test_streams_that_are_cut_anywhere_leave_the_engine_well(path: Path, shell: Shell) -> None:
    hello = bytes([frames.PROTOCOL_VERSION]) + frames.text("cut") + frames.text("/") + frames.u32(0)
    call = frames.text("llm") + frames.u32(1) + frames.text("") + bytes([17]) + frames.u32(1)
    stream = frames.u32(len(hello)) + frames.HELLO + hello + frames.u32(len(call)) + frames.CALL
    stream += call
    for end in range(0, len(stream), 3):
        with connect(path) as connection:
            connection.sendall(stream[:end])
    assert shell.call("llm_filter", "'Good?', 'yes'") == ["true"]


def test_a_table_of_another_database_is_found_by_its_whole_name(shell: Shell) -> None:
    shell.duckdb.execute("ATTACH ':memory:' AS shop; CREATE TABLE shop.main.x AS SELECT 1 AS a")
    shell.duckdb.execute("CREATE SCHEMA s; CREATE TABLE s.x AS SELECT 2 AS a")
    assert shell.run("SELECT a FROM shop.x") == [(1,)]
    assert shell.run("SELECT a FROM shop.main.x") == [(1,)]
    assert shell.run("SELECT a FROM s.x") == [(2,)]
    with pytest.raises(EngineError, match="x does not exist"):
        shell.run("SELECT a FROM x")


def test_what_the_shell_refuses_is_told_in_its_words(shell: Shell) -> None:
    shell.duckdb.execute("CREATE TABLE base AS SELECT 1 AS a; CREATE VIEW v AS SELECT a FROM base")
    shell.duckdb.execute("DROP TABLE base; CREATE TABLE base AS SELECT 1 AS b")
    with pytest.raises(EngineError, match=r"(?i)a.* not found"):
        shell.run("SELECT * FROM v")


def test_duckdb_is_the_one_under_test() -> None:
    assert duckdb.__version__
