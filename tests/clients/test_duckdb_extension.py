"""The native extension in DuckDB's own shell: its tables, our functions, a real HTTP server."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import psutil
import pytest

from quackllm.engine.providers.base import Request
from quackllm.engine.table_functions.registry import BUILT_IN
from quackllm.testing import FakeServer, HttpFault, deterministic_answer
from quackllm.udfs.base import Choice
from quackllm.udfs.registry import Functions
from tests.clients.duckdb_shell import EXTENSION, NEWEST, SHELL, Shell, outputs, program

pytestmark = pytest.mark.clients

if not program(SHELL).exists() or not EXTENSION.exists():
    pytest.skip("no shell or no extension (make test-clients)", allow_module_level=True)

TABLES = [
    "CREATE TABLE movies AS SELECT i AS id, CASE WHEN i % 2 = 0 THEN 'yes ' ELSE 'no ' END || i AS title,"
    " CASE WHEN i % 3 = 0 THEN NULL ELSE 'story ' || i END AS synopsis, i % 4 AS kind FROM range(12) r(i);",
    "CREATE VIEW even AS SELECT * FROM movies WHERE id % 2 = 0;",
    "CREATE SCHEMA other; CREATE TABLE other.notes AS SELECT 'note ' || i AS note FROM range(3) r(i);",
    "CREATE TABLE typed AS SELECT i AS id, (i / 4)::DECIMAL(10, 2) AS price, DATE '2020-01-01' + i::INTEGER AS day,"
    " ['t' || i, NULL] AS tags, {'a': i, 'b': [i, NULL]} AS st, MAP {'k': i} AS mp, array_value(i, i + 1) AS arr,"
    " ('00000000-0000-0000-0000-00000000000' || i)::UUID AS u, ['x', 'y'][i % 2 + 1]::ENUM ('x', 'y') AS en,"
    " INTERVAL (i) DAY AS iv, i::HUGEINT * -12345678901234567890 AS h, i % 2 = 0 AS b, '{\"x\": 1}'::JSON AS j,"
    " '\\xAA'::BLOB AS bl, TIMESTAMP '2024-01-02 03:04:05.678901' AS ts, TIME '01:02:03' AS t, i::UTINYINT AS ti,"
    " CASE WHEN i = 3 THEN NULL ELSE 0.5::FLOAT END AS f, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS tz,"
    " '2024-01-02'::TIMESTAMP_NS AS ns FROM range(5) r(i); INSERT INTO typed (id) VALUES (99);",
]  # fmt: skip

EXACT = "id, price, day, tags, st, mp, arr, u, en, iv, h, b, j, bl, ts, t, ti, f, tz, ns"

CHECKS = [
    # calls that DuckDB makes, on the shell's own tables
    ("SELECT count(*) FROM movies WHERE LLM_FILTER('Is it good?', title)", "6"),
    ("SELECT count(*) FROM movies WHERE NOT llm_filter('Is it good?', title)", "6"),
    ("SELECT count(*) FROM movies WHERE AI_FILTER('Is it good?', title) AND id < 4", "2"),
    ("SELECT typeof(LLM_FILTER('Is it good?', 'yes'))", "BOOLEAN"),
    ("SELECT LLM_FILTER('Is it good?', NULL)", "NULL"),
    ("SELECT count(*) FROM movies WHERE LLM_FILTER('Is it good?', synopsis, title) IS NULL", "0"),
    ("SELECT id, LLM_CLASSIFY(title, ['drama', 'comedy']) FROM movies WHERE id = 1", "1,drama"),
    ("SELECT LLM_CLASSIFY('x', MAP {'one': 'the first', 'two': NULL})", "one"),
    ("SELECT AI_CLASSIFY('x', {'one': 'the first', 'two': ''})", "one"),
    ("SELECT typeof(LLM_EXTRACT(title, {'n': 'INTEGER'})) FROM movies LIMIT 1", "JSON"),
    ("SELECT CAST(LLM_EXTRACT(title, {'n': 'INTEGER', 's': 'VARCHAR: text'}) AS STRUCT(n INTEGER, s VARCHAR)).n IS NOT NULL OR true FROM movies LIMIT 1", "true"),
    ("SELECT json_keys(AI_EXTRACT('x', {'n': 'INTEGER', 's': 'VARCHAR[]'}))", '"[n, s]"'),
    ("SELECT LLM_SCORE('How good?', title) BETWEEN 0 AND 1 FROM movies LIMIT 1", "true"),
    ("SELECT typeof(AI_SCORE('How good?', 'x'))", "DOUBLE"),
    ("SELECT LLM('Say it', title) FROM movies WHERE id = 2", "said yes 2"),
    ("SELECT LLM('yes or no')", "said yes or no"),
    ("SELECT llm_complete('Say it', 'a') = ai_complete('Say it', 'a')", "true"),
    ("SELECT LLM_SUMMARIZE('long')", "said long"),
    ("SELECT LLM_TRANSLATE('ja', 'German')", "said ja"),
    ("SELECT AI_TRANSLATE('ja', 'German'), AI_SUMMARIZE('long')", "said ja,said long"),
    ("SELECT LLM_SENTIMENT('fine') IN ('positive', 'neutral', 'negative', 'mixed')", "true"),
    ("SELECT count(DISTINCT a) FROM (SELECT LLM('Say it', i % 7) AS a FROM range(5000) r(i))", "7"),
    ("SELECT count(DISTINCT LLM('Say ' || (i % 3), 'x')) FROM range(10) r(i)", "1"),
    ("SELECT LLM('Say it', {'title': 'yes'}) = LLM('Say it', struct_pack(title)) FROM (SELECT 'yes' AS title)", "true"),
    ("SELECT LLM('Say it', movies) FROM movies WHERE id = 1", "said 1 no 1 story 1 1"),
    ("SELECT LLM('Say it', 1, true, NULL, DATE '2024-01-02', [1, NULL], 2.50::DECIMAL(5, 2))", "said 1 True None 2024-01-02 [1, None] 2.5"),
    ("SELECT LLM('Say it', '{\"a\": [1]}'::JSON)", "said {'a': [1]}"),
    ("SELECT LLM('Say it', 'a', {'llm_options': {'max_tokens': 5, 'temperature': 0.5}})", "said a"),
    ("SELECT LLM('Say it', 'a', {'llm_options': {'return_type': 'INTEGER'}})::INTEGER BETWEEN -9 AND 9 OR true", "true"),
    ("SELECT kind, count(*) FROM movies GROUP BY kind HAVING LLM_FILTER('Is it good?', 'yes ' || kind) ORDER BY kind LIMIT 1", "0,3"),
    ("SELECT CASE WHEN id > 100 THEN LLM('never', title) ELSE 'not asked' END FROM movies WHERE id = 1", "not asked"),
    ("CREATE TABLE kept AS SELECT id, LLM('Say it', title) AS a FROM movies; SELECT count(a) FROM kept", "12"),
    ("UPDATE kept SET a = LLM('Say it', id); SELECT a FROM kept WHERE id = 3", "said 3"),
    ("CREATE MACRO good(x) AS LLM_FILTER('Is it good?', x); SELECT good('yes')", "true"),
    ("CREATE VIEW rated AS SELECT id, LLM_FILTER('Is it good?', title) AS g FROM movies; SELECT count(*) FROM rated WHERE g", "6"),
    # statements that the engine plans
    ("SELECT count(*) FROM llm('SELECT * FROM movies WHERE LLM_FILTER(''Is it good?'', title)')", "6"),
    ("FROM llm($$ SELECT title FROM movies WHERE id = 3 AND NOT LLM_FILTER('Is it good?', title) $$)", "no 3"),
    ("FROM llm($$ SELECT LLM_EXTRACT(title, {'n': 'INTEGER'}) AS e FROM movies WHERE id = 1 $$)", "{'n':"),
    ("SELECT typeof(e) FROM llm($$ SELECT LLM_EXTRACT(title, {'n': 'INTEGER'}) AS e FROM movies LIMIT 1 $$)", "STRUCT(n INTEGER)"),
    ("SELECT typeof(x) FROM llm('SELECT LLM(''Say it'', title, return_type := ''INTEGER'') AS x FROM movies LIMIT 1')", "INTEGER"),
    ("FROM llm('SELECT count(*) FROM even')", "6"),
    ("CREATE VIEW planned AS FROM llm($$ SELECT id, LLM('Say it', id) AS a FROM movies $$); SELECT a FROM planned WHERE id = 4", "said 4"),
    ("FROM llm('SELECT a FROM planned')", "cannot be read inside of llm(...)"),
    ("SELECT sum(n) FROM (FROM llm('SELECT count(*) AS n FROM movies') UNION ALL FROM llm('SELECT count(*) FROM even'))", "18"),
    ("FROM llm('SELECT max(note) FROM other.notes')", "note 2"),
    ("FROM llm('SELECT max(note) FROM memory.other.notes')", "note 2"),
    ("FROM llm('WITH movies AS (SELECT 1 AS one) SELECT * FROM movies')", "1"),
    ("FROM llm('SELECT m.id FROM movies m NATURAL JOIN even e WHERE m.id = 4')", "4"),
    ("SELECT m.id FROM movies m JOIN llm('SELECT id FROM movies WHERE id = 5') l USING (id)", "5"),
    ("SELECT a.id, b.id FROM llm('SELECT id FROM movies WHERE id = 5') a, llm('SELECT id FROM even WHERE id = 6') b", "5,6"),
    (f"SELECT count(*) FROM (SELECT {EXACT} FROM typed EXCEPT FROM llm('SELECT {EXACT} FROM typed'))", "0"),
    ("SELECT string_agg(DISTINCT typeof(en), '') FROM llm('SELECT en FROM typed')", "\"ENUM('x', 'y')\""),
    ("SELECT sum(i), count(*) FROM llm('SELECT i FROM range(100000) r(i)')", "4999950000,100000"),
    ("SELECT count(*) FROM llm('SELECT * FROM big')", "50000"),
    ("FROM llm('SELECT TIMETZ ''01:02:03+02'' AS t, ''101''::BIT AS b, union_value(n := 2) AS u')", "01:02:03+02,101,2"),
    ("FROM llm('SELECT count(*) AS n FROM movies LIMIT 0')", ""),
    ("CREATE TABLE copied AS FROM llm('SELECT id FROM movies'); SELECT count(*) FROM copied", "12"),
    ("SELECT bool_or(plan LIKE '%LLM in SELECT%') FROM llm('EXPLAIN SELECT LLM(title) FROM movies')", "true"),
    ("SELECT bool_or(plan LIKE '%actual%') FROM llm('EXPLAIN ANALYZE SELECT LLM(title) FROM movies')", "true"),
    ("SELECT count(*), bool_and(json_valid(plan)) FROM llm('EXPLAIN (FORMAT json) SELECT LLM(title) FROM movies')", "1,true"),
    # settings, and what the engine knows
    ("SELECT llm_set('llm_max_error_ratio', 1)", "llm_max_error_ratio"),
    ("SELECT value FROM llm_settings() WHERE name = 'llm_max_error_ratio'", "1.0"),
    ("SELECT llm_set('llm_max_error_ratio', NULL); SELECT value FROM llm_settings() WHERE name = 'llm_max_error_ratio'", "0.9"),
    ("FROM llm('SET llm_reorder = false')", "done"),
    ("SELECT value FROM llm_settings() WHERE name = 'llm_reorder'", "false"),
    ("FROM llm('CREATE MODEL fast (model ''fake-model'')'); SELECT LLM('Say it', 'b', {'llm_options': {'model': 'fast'}})", "said b"),
    ("SELECT count(*) > 3 FROM llm_queries() WHERE calls > 0", "true"),
    ("SELECT count(*) FROM llm_functions()", str(len(Functions.load()) + len(BUILT_IN))),
    ("SELECT count(*) > 0 FROM llm_cache()", "true"),
    ("SELECT name FROM llm_models() WHERE name IS NOT NULL", "fast"),
    # failures
    ("SELECT LLM('Say it', 'broken')", "NULL"),
    ("SELECT cause, status, function FROM llm_errors() LIMIT 1", "server error,500,llm"),
    ("SELECT LLM('Say it', 'broken', {'llm_options': {'on_error': 'error'}})", "Invalid Input Error:"),
    ("SELECT LLM('Say it', 'broken', {'llm_options': {'default_value': 'sorry'}})", "sorry"),
    ("SELECT LLM_FILTER('alone')", "data arguments are missing"),
    ("SELECT LLM_FILTER(NULL, 'x')", "prompt must be a text, not NULL"),
    ("SELECT LLM_CLASSIFY('x', 3)", "labels must be a list of texts"),
    ("SELECT LLM_CLASSIFY('x', ['a'], 'more')", "too many arguments"),
    ("SELECT LLM()", "LLM: no argument: LLM(prompt"),
    ("SELECT LLM('a', 'b', {'llm_options': {'modle': 'x'}})", "did you mean model?"),
    ("SELECT LLM('a', union_value(n := 1))", "cast it to VARCHAR"),
    ("SELECT llm_set('llm_modle', 'x')", 'Did you mean: "llm_model"'),
    ("SELECT llm_set('threads', 1)", "no setting of quackllm"),
    ("FROM llm('SELECT nope FROM movies')", 'Referenced column "nope" not found'),
    ("FROM llm('SELECT * FROM nowhere')", "Table with name nowhere does not exist"),
    ("FROM llm('SELEC 1')", "syntax error"),
    ("FROM llm('CREATE TABLE x (a INTEGER)')", "takes a query"),
    ("FROM llm('SELECT 1; SELECT 2')", "takes one statement, not 2"),
    ("FROM llm(NULL)", "needs the text of a statement"),
    ("SELECT llm_set('llm_max_calls', 2); SELECT LLM('Say it', 'new ' || i) FROM range(9) r(i)", "llm_max_calls = 2 is reached"),
    ("SELECT llm_set('llm_max_calls', NULL)", "llm_max_calls"),
    ("SELECT 1 + 1", "2"),
]  # fmt: skip


def answer(request: Request) -> str:
    """'true' where a field begins with yes; the first label; a text of the values."""
    values = json.loads(request.fields).values()
    form = request.answer
    if isinstance(form, Choice):
        good = any(str(value).startswith("yes") for value in values)
        return ("true" if good else "false") if "true" in form.labels else form.labels[0]
    said = deterministic_answer(request)
    return f"said {' '.join(map(str, values))}" if said.startswith("answer ") else said


@pytest.fixture(scope="module")
def model() -> Iterator[FakeServer]:
    broken = HttpFault.failing(500, containing="broken")
    with FakeServer(flavor="vllm", answer=answer, faults=[broken]) as server:
        yield server


@pytest.fixture(scope="module")
def environment(model: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the engine is found, and what it asks. A socket's path has to be short."""
    return {
        "QUACKLLM_PYTHON": sys.executable,
        "QUACKLLM_CACHE": ":memory:",
        "OPENAI_BASE_URL": model.base_url,
        "OPENAI_API_KEY": "none",
        "XDG_RUNTIME_DIR": str(tmp_path_factory.mktemp("run")),
    }


FIRST = [f"LOAD '{EXTENSION}';", *TABLES, "CREATE TABLE big AS SELECT i AS a, 'text ' || i AS b FROM range(50000) r(i);",
         "SELECT llm_set('llm_max_retries', 0);"]  # fmt: skip
"""What the shells of these tests begin with."""


@pytest.fixture(scope="module")
def printed(environment: dict[str, str]) -> dict[str, str]:
    """What each statement prints in one shell, one after the other."""
    statements = [sql for sql, _ in CHECKS]
    shown = outputs(SHELL, FIRST, statements, environment=environment)
    return dict(zip(statements, shown, strict=True))


@pytest.mark.parametrize(("sql", "shown"), CHECKS, ids=[sql[:70] for sql, _ in CHECKS])
def test_the_shell_shows(printed: dict[str, str], sql: str, shown: str) -> None:
    lines = printed[sql].splitlines()
    assert shown in lines or any(shown in line for line in lines), printed[sql]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[FakeServer, dict[str, str]]]:
    """A model that takes its time, and an engine of its own."""
    with FakeServer(flavor="vllm", answer=answer, latency=20.0) as server:
        yield server, of_its_own(server, tmp_path)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[tuple[FakeServer, dict[str, str]]]:
    """A model that answers at once, and an engine of its own."""
    with FakeServer(flavor="vllm", answer=answer) as server:
        yield server, of_its_own(server, tmp_path)


def of_its_own(server: FakeServer, folder: Path) -> dict[str, str]:
    folder.chmod(0o700)
    return {
        "QUACKLLM_PYTHON": sys.executable,
        "QUACKLLM_CACHE": ":memory:",
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": "none",
        "XDG_RUNTIME_DIR": str(folder),
    }


def engines(environment: dict[str, str]) -> list[psutil.Process]:
    """The engines that run for an environment."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "shell-engine" in (process.info["cmdline"] or []):
            try:
                runs_in = process.environ().get("XDG_RUNTIME_DIR")
                ended = process.status() == psutil.STATUS_ZOMBIE  # until its shell asks again
            except psutil.Error:
                continue
            if runs_in == environment["XDG_RUNTIME_DIR"] and not ended:
                found.append(process)
    return found


def is_served(environment: dict[str, str]) -> bool:
    """Whether anybody listens: the sockets of a process that is killed close after its end."""
    for path in Path(environment["XDG_RUNTIME_DIR"]).rglob("*.sock"):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait for a condition; return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - started


LOAD = f"LOAD '{EXTENSION}';"
ASK = "SELECT LLM('Say it', i) FROM range(20) r(i);"
Model = tuple[FakeServer, dict[str, str]]


def test_what_shows_a_plan_or_a_schema_calls_no_model(quick: Model) -> None:
    server, environment = quick
    with Shell(SHELL, environment, [LOAD, *TABLES]) as shell:
        shell.run("EXPLAIN SELECT LLM('constant'), LLM_FILTER('x', title) FROM movies;")
        shell.run("DESCRIBE SELECT LLM_EXTRACT(title, {'n': 'INTEGER'}) FROM movies;")
        shell.run("PREPARE p AS SELECT LLM('constant', title) FROM movies;")
        shell.run("CREATE VIEW v AS SELECT LLM('constant', title) AS a FROM movies; DESCRIBE v;")
        assert engines(environment) == []
        shell.run("EXPLAIN FROM llm('SELECT LLM(title) FROM movies');")
        shell.run("DESCRIBE FROM llm('SELECT LLM(title) FROM movies');")
        shell.run("CREATE VIEW w AS FROM llm('SELECT LLM(title) AS a FROM movies');")
        shell.run("FROM llm('EXPLAIN SELECT LLM(title) FROM v');")
        assert server.calls == 0
        assert "12" in shell.run("EXECUTE p; SELECT count(*) FROM w;")
    assert server.calls > 0


def test_a_call_is_made_once_for_equal_rows_of_all_chunks_and_threads(quick: Model) -> None:
    server, environment = quick
    create = "CREATE TABLE many AS SELECT i % 50 AS a FROM range(500000) r(i);"
    with Shell(SHELL, environment, [LOAD, create, "SET threads = 4;"]) as shell:
        printed = shell.run("SELECT count(*), count(DISTINCT LLM('Say it', a)) FROM many;")
        assert "500000,50" in printed
        shell.run("SELECT count(LLM('Say it', a)) FROM many;")
        assert "50" in shell.run("SELECT sum(calls) FROM llm_queries();").split()
    assert server.calls == 50


def test_an_engine_that_is_killed_is_an_error_and_the_next_statement_has_another(
    slow: Model,
) -> None:
    server, environment = slow
    with Shell(SHELL, environment, [LOAD, "SELECT llm_set('llm_concurrency', 7);"]) as shell:
        [engine] = engines(environment)
        shell.type(ASK)
        wait_until(lambda: server.calls > 0)
        engine.kill()
        assert "the engine of quackllm has ended in the middle of a statement" in shell.printed()
        wait_until(lambda: server.abandoned > 0)
        shown = shell.run("SELECT value FROM llm_settings() WHERE name = 'llm_concurrency';")
        assert "7" in shown.split()
        assert len(engines(environment)) == 1


def test_an_engine_that_is_killed_between_statements_is_not_noticed(quick: Model) -> None:
    _, environment = quick
    with Shell(SHELL, environment, [LOAD, "SELECT llm_set('llm_max_error_ratio', 1);"]) as shell:
        for engine in engines(environment):
            engine.kill()
        wait_until(lambda: not is_served(environment))
        assert "said a" in shell.run("SELECT LLM('Say it', 'a');")
        assert "1.0" in shell.run("FROM llm_settings() WHERE name = 'llm_max_error_ratio';")


@pytest.mark.parametrize(
    "sql", [ASK, "FROM llm($$ SELECT LLM('Say it', i) FROM range(20) r(i) $$);"]
)
def test_when_the_shell_is_killed_calls_end_and_so_does_the_engine(slow: Model, sql: str) -> None:
    server, environment = slow
    with Shell(SHELL, environment, [LOAD]) as shell:
        shell.type(sql)
        wait_until(lambda: server.calls > 0)
        assert len(engines(environment)) == 1
        shell.process.kill()
        assert wait_until(lambda: server.abandoned > 0 and server.connections == 0) < 3
        wait_until(lambda: engines(environment) == [])
    left = [path.name for path in Path(environment["XDG_RUNTIME_DIR"]).rglob("*.sock")]
    assert left == []


@pytest.mark.parametrize(
    "sql", [ASK, "FROM llm($$ SELECT LLM('Say it', i) FROM range(20) r(i) $$);"]
)
def test_ctrl_c_ends_the_calls_and_the_shell_goes_on(slow: Model, sql: str) -> None:
    server, environment = slow
    with Shell(SHELL, environment, [LOAD, "SELECT llm_set('llm_concurrency', 5);"]) as shell:
        shell.type(sql)
        wait_until(lambda: server.calls > 0)
        started = time.monotonic()
        shell.process.send_signal(signal.SIGINT)
        printed = shell.printed()  # the shell itself says little of a statement that is interrupted
        assert time.monotonic() - started < 2
        assert printed == "" or "nterrupt" in printed
        assert wait_until(lambda: server.abandoned > 0 and server.connections == 0) < 2
        shown = shell.run("SELECT value FROM llm_settings() WHERE name = 'llm_concurrency';")
        assert "5" in shown.split()


def test_shells_of_one_environment_share_an_engine_and_not_their_settings(quick: Model) -> None:
    _, environment = quick
    value = "SELECT value FROM llm_settings() WHERE name = 'llm_concurrency';"
    with Shell(SHELL, environment, [LOAD]) as one, Shell(SHELL, environment, [LOAD]) as two:
        one.run("SELECT llm_set('llm_concurrency', 3);")
        assert "3" not in two.run(value).split()
        assert "3" in one.run(value).split()
        assert len(engines(environment)) == 1
        other = {**environment, "OPENAI_API_KEY": "another"}
        with Shell(SHELL, other, [LOAD]) as three:
            three.run(value)
            assert len(engines(environment)) == 2
        assert one.end() == 0
        assert "said a" in two.run("SELECT LLM('Say it', 'a');")
    wait_until(lambda: engines(environment) == [])


def test_the_runtime_folder_is_closed_to_others_or_refused(quick: Model) -> None:
    _, environment = quick
    folder = Path(environment["XDG_RUNTIME_DIR"]) / "quackllm"
    with Shell(SHELL, environment, [LOAD]) as shell:
        shell.run("SELECT LLM('Say it', 'a');")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}
    wait_until(lambda: engines(environment) == [])
    folder.chmod(0o755)
    with Shell(SHELL, environment, [LOAD]) as shell:
        assert "nobody else can enter" in shell.run("SELECT LLM('Say it', 'a');")


def test_without_an_engine_the_error_says_what_to_do(quick: Model) -> None:
    _, environment = quick
    with Shell(SHELL, {**environment, "QUACKLLM_PYTHON": "/nowhere/python"}, [LOAD]) as shell:
        assert "set QUACKLLM_PYTHON" in shell.run("SELECT LLM('Say it', 'a');")
        assert "42" in shell.run("SELECT 42;")


def test_an_engine_that_cannot_start_is_quoted(quick: Model, tmp_path: Path) -> None:
    _, environment = quick
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named quackllm' >&2; exit 1\n")
    broken.chmod(0o700)
    with Shell(SHELL, {**environment, "QUACKLLM_PYTHON": str(broken)}, [LOAD]) as shell:
        printed = shell.run("SELECT LLM('Say it', 'a');")
        assert "did not start" in printed
        assert "No module named quackllm" in printed


def test_a_database_file_is_read_changed_and_closed(quick: Model, tmp_path: Path) -> None:
    _, environment = quick
    file = tmp_path / "shop.duckdb"
    with Shell(SHELL, environment, [LOAD, *TABLES], str(file)) as shell:
        assert "12" in shell.run("FROM llm('SELECT count(*) FROM movies');")
        assert "12" in shell.run("FROM llm('SELECT count(*) FROM shop.main.movies');")
        shell.run("INSERT INTO movies (id) VALUES (100);")
        assert "13" in shell.run("FROM llm('SELECT count(*) FROM movies');")
        shell.run(".open :memory:")
        time.sleep(1.5)
        shell.run(f".open {file}")
        assert "13" in shell.run("SELECT count(*) FROM movies;")
        shell.run(LOAD)
        assert "13" in shell.run("FROM llm('SELECT count(*) FROM movies');")
        assert shell.end() == 0
    assert file.exists()
    assert not file.with_suffix(".duckdb.wal").exists()


def test_what_is_not_committed_is_not_seen_by_planned_statements(quick: Model) -> None:
    _, environment = quick
    with Shell(SHELL, environment, [LOAD, *TABLES]) as shell:
        shell.run("BEGIN; INSERT INTO movies (id) VALUES (100);")
        assert "12" in shell.run("FROM llm('SELECT count(*) FROM movies');")
        assert "13" in shell.run("SELECT count(LLM('Say it', id)) FROM movies;")
        shell.run("COMMIT;")
        assert "13" in shell.run("FROM llm('SELECT count(*) FROM movies');")
        shell.run("CREATE TEMP TABLE mine AS SELECT 1 AS a;")
        assert "mine does not exist" in shell.run("FROM llm('SELECT a FROM mine');")


def test_files_are_found_where_the_shell_is(quick: Model, tmp_path: Path) -> None:
    _, environment = quick
    (tmp_path / "here.csv").write_text("a,b\n1,x\n2,y\n")
    with Shell(SHELL, environment, [LOAD, f".cd {tmp_path}"]) as shell:
        assert "2" in shell.run("FROM llm($$ SELECT count(*) FROM 'here.csv' $$);").split()


@pytest.mark.skipif(not program(NEWEST).exists(), reason="the newest shell is not installed")
def test_the_newest_shell_loads_the_same_file(environment: dict[str, str]) -> None:
    checks = [CHECKS[at] for at in (0, 6, 12, 21, 27, 36, 47, 49)]
    shown = outputs(NEWEST, FIRST, [sql for sql, _ in checks], environment=environment)
    for (sql, expected), printed in zip(checks, shown, strict=True):
        assert any(expected in line for line in printed.splitlines()), f"{sql}: {printed}"


def test_python_loads_the_same_file(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        connection.execute(LOAD)
        connection.execute(TABLES[0])
        native = "SELECT count(*) FROM movies WHERE LLM_FILTER('Is it good?', title)"
        assert connection.execute(native).fetchall() == [(6,)]
        planned = "FROM llm('SELECT id, LLM(''Say it'', id) AS a FROM movies WHERE id < 2')"
        assert connection.execute(planned).fetchall() == [(0, "said 0"), (1, "said 1")]
