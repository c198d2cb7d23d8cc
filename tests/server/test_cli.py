"""The `quackllm` command, run as a process: what it prints, where, and how it exits."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pytest

from quackllm.server.cli import main
from quackllm.testing import FakeServer, HttpFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Inside = Callable[..., "Done"]

COMMAND = [sys.executable, "-m", "quackllm"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
NESTED = "SELECT 1 AS a, 'x|y' AS b, [1, 2] AS c, {'k': NULL} AS d, '' AS e, NULL AS f"


def quackllm(
    *arguments: str, stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; nothing on standard input unless given."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )


@dataclass(frozen=True)
class Done:
    """What `main` returned and printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def inside(capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command without a process of its own, for what does not need one."""

    def run(*arguments: str) -> Done:
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        return Done(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer(flavor="vllm", models=("fake-model",)) as running:
        yield running


def at(server: FakeServer) -> list[str]:
    """The arguments that point the command at a server."""
    return ["--base-url", server.base_url, "--model", "fake-model"]


def test_a_statement_without_llm_functions_is_duckdbs() -> None:
    """Promise 1: the same table that DuckDB draws, and nothing said beside it."""
    sql = "SELECT range AS n, range * 1.5 AS x FROM range(3)"
    done = quackllm("-c", sql)
    assert done.returncode == 0
    assert done.stdout.strip() == str(duckdb.sql(sql)).strip()
    assert done.stderr == ""


def test_csv_tells_null_from_an_empty_text() -> None:
    done = quackllm("--format", "csv", "-c", NESTED)
    assert done.stdout == 'a,b,c,d,e,f\n1,x|y,"[1, 2]",{\'k\': NULL},"",\n'


def test_csv_survives_quotes_commas_and_line_ends(inside: Inside) -> None:
    value = 'a "b", c\nd'
    done = inside("--format", "csv", "-c", f"SELECT '{value}' AS a")
    assert list(csv.reader(io.StringIO(done.stdout, newline=""))) == [["a"], [value]]


def test_json_keeps_nested_values() -> None:
    done = quackllm("--format", "json", "-c", NESTED)
    assert json.loads(done.stdout) == [
        {"a": 1, "b": "x|y", "c": [1, 2], "d": {"k": None}, "e": "", "f": None}
    ]


def test_json_of_no_rows_is_an_empty_list(inside: Inside) -> None:
    assert json.loads(inside("--format", "json", "-c", "SELECT 1 WHERE false").stdout) == []


def test_json_of_many_rows_has_them_all(inside: Inside) -> None:
    done = inside("--format", "json", "-c", "FROM range(25000)")
    assert len(json.loads(done.stdout)) == 25_000


def test_markdown_escapes_what_would_break_the_table(inside: Inside) -> None:
    done = inside("--format", "markdown", "-c", "SELECT 'x|y' AS b, 'p' || chr(10) || 'q' AS c")
    assert done.stdout == "| b | c |\n| --- | --- |\n| x\\|y | p<br>q |\n"


def test_each_result_of_a_script_is_printed_and_the_rest_is_silent(
    inside: Inside,
) -> None:
    done = inside(
        "--format", "csv", "-c", "CREATE TABLE t (a INT); INSERT INTO t VALUES (7); FROM t; FROM t"
    )
    assert done.stdout == "a\n7\na\n7\n"


def test_statements_come_from_standard_input() -> None:
    done = quackllm("--format", "csv", stdin="SELECT 'é' AS a; -- the end\n")
    assert done.stdout == "a\né\n"


def test_a_script_finds_the_files_beside_it(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t.csv").write_text("a\n5\n")
    script = tmp_path / "s.sql"
    script.write_text("FROM 'data/t.csv';")
    assert inside("--format", "csv", "-f", str(script)).stdout == "a\n5\n"


def test_files_of_the_working_directory_come_first(tmp_path: Path) -> None:
    for folder, value in [("here", 1), ("there", 2)]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text(f"a\n{value}\n")
    (tmp_path / "there" / "s.sql").write_text("FROM 't.csv'")
    done = quackllm("--format", "csv", "-f", "../there/s.sql", cwd=tmp_path / "here")
    assert done.stdout == "a\n1\n"


def test_a_database_file_keeps_what_was_written(tmp_path: Path) -> None:
    database = str(tmp_path / "x.duckdb")
    assert quackllm(database, "-c", "CREATE TABLE t AS SELECT 3 AS a").returncode == 0
    assert quackllm(database, "--read-only", "--format", "csv", "-c", "FROM t").stdout == "a\n3\n"
    refused = quackllm(database, "--read-only", "-c", "DROP TABLE t")
    assert refused.returncode == 1
    assert "read-only" in refused.stderr


def test_settings_of_duckdb_and_of_quackllm_can_be_set(inside: Inside) -> None:
    done = inside(
        "--set", "threads=1", "--set", "llm_call_timeout=7", "--format", "csv",
        "-c", "SELECT current_setting('threads') AS a, current_setting('llm_call_timeout') AS b",
    )  # fmt: skip
    assert done.stdout.splitlines()[1].split(",")[0] == "1"
    assert done.stdout.splitlines()[1].split(",")[1].startswith("7")


def test_echo_prints_statements_with_their_comments(inside: Inside) -> None:
    done = inside(
        "--echo", "--format", "csv", "-c", "-- one\nSELECT 1 AS a;\n-- two\nSELECT 2 AS b"
    )
    assert done.stdout == "-- one\nSELECT 1 AS a;\na\n1\n\n-- two\nSELECT 2 AS b;\nb\n2\n"


def test_plans_are_printed_as_they_are(inside: Inside) -> None:
    done = inside("-c", "EXPLAIN SELECT 1")
    assert "\\n" not in done.stdout
    assert "explain_value" not in done.stdout


def test_version_names_duckdb_too(inside: Inside) -> None:
    done = inside("--version")
    assert done.returncode == 0
    assert duckdb.__version__ in done.stdout


def test_a_failing_statement_is_told_as_duckdb_tells_it() -> None:
    done = quackllm("-c", "SELECT 1; SELECT colour FROM range(3); SELECT 'not reached'")
    assert done.returncode == 1
    assert "Binder Error" in done.stderr
    assert '"colour"' in done.stderr
    assert "in statement 2, line 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert "not reached" not in done.stdout


def test_the_error_of_a_script_names_file_and_line(inside: Inside, tmp_path: Path) -> None:
    script = tmp_path / "s.sql"
    script.write_text("SELECT 1;\n\nSELECT nothing;\n")
    done = inside("-f", str(script))
    assert f"in statement 2, line 3 of {script}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--colour"], "unrecognized arguments: --colour"),
        (["-c", "SELECT 1", "-f", "x.sql"], "not allowed with"),
        (["-f", "no such file.sql"], "cannot read no such file.sql: No such file"),
        (["--format", "xml", "-c", "SELECT 1"], "invalid choice: 'xml'"),
        (["--set", "threads", "-c", "SELECT 1"], "--set takes NAME=VALUE, got 'threads'"),
        (["--set", "llm_modle=x", "-c", "SELECT 1"], 'Did you mean: "llm_model"'),
        (["--set", "llm_call_timeout=soon", "-c", "SELECT 1"], "llm_call_timeout must be a number"),
        (["--set", "thraeds=1", "-c", "SELECT 1"], "cannot set thraeds"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_was_wrong(
    inside: Inside, arguments: list[str], said: str
) -> None:
    done = inside(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_input_that_is_no_text_is_wrong_usage(inside: Inside, tmp_path: Path) -> None:
    script = tmp_path / "s.sql"
    script.write_bytes(b"SELECT '\xff'")
    done = inside("-f", str(script))
    assert done.returncode == 2
    assert "is not UTF-8" in done.stderr


def test_a_database_that_cannot_be_opened_is_an_error(inside: Inside, tmp_path: Path) -> None:
    done = inside(str(tmp_path / "missing" / "x.duckdb"), "-c", "SELECT 1")
    assert done.returncode == 1
    assert "IO Error" in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_and_cost_go_to_different_streams(server: FakeServer) -> None:
    """Promise 4: after a statement with calls, one line says what they cost."""
    sql = "SELECT LLM_CLASSIFY(range::VARCHAR, ['a', 'b']) AS label FROM range(6)"
    done = quackllm(*at(server), "--format", "csv", "-c", sql)
    assert done.returncode == 0, done.stderr
    header, *labels = done.stdout.split()
    assert header == "label"
    assert set(labels) <= {"a", "b"}
    assert len(labels) == 6
    [cost] = done.stderr.splitlines()
    assert cost.startswith("-- 6 calls · ")


@pytest.mark.parametrize("style", ["table", "csv", "json", "markdown"])
def test_no_format_asks_twice(inside: Inside, server: FakeServer, style: str) -> None:
    before = server.calls
    sql = "SELECT LLM_FILTER('Is it even?', range) AS even FROM range(5)"
    assert inside(*at(server), "--format", style, "-c", sql).returncode == 0
    assert server.calls - before == 5


def test_failed_calls_are_null_and_counted() -> None:
    """Promise 3: the row stays, its value is NULL, and the cost line says how many."""
    with FakeServer(flavor="vllm", faults=[HttpFault.failing(500)]) as broken:
        done = quackllm(
            *at(broken), "--set", "llm_max_retries=0", "--format", "csv",
            "-c", "SELECT LLM('Say it', range) AS a FROM range(2)",
        )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == "a\n\n\n"
    assert "2 failed" in done.stderr
    assert "llm_errors()" in done.stderr


def test_an_unreachable_server_stops_the_statement_with_one_error() -> None:
    done = quackllm(
        "--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--set", "llm_max_retries=0",
        "-c", "SELECT LLM('Say it', range) FROM range(2)",
    )  # fmt: skip
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_run_at_once_and_cleanly() -> None:
    with FakeServer(flavor="vllm", latency=30.0) as slow:
        process = subprocess.Popen(
            [*COMMAND, *at(slow), "-c", "SELECT LLM('Say it', range) FROM range(100)"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
        deadline = time.monotonic() + 20
        while slow.calls == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "Interrupted" in errors


def test_a_reader_that_goes_away_is_no_error_to_shout_about() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--format", "csv", "-c", "FROM range(3000000)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "range\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 141


def test_nothing_to_run_on_a_terminal_is_wrong_usage() -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    try:
        done = subprocess.run(
            COMMAND, stdin=follower, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 2
    assert "nothing to run" in done.stderr


def test_echo_shows_no_key(inside: Inside) -> None:
    script = "SET llm_api_key = 'sk-canary'; CREATE SECRET (TYPE openai, KEY 'sk-canary'); SELECT 1"
    done = inside("--echo", "--format", "csv", "-c", script)
    assert "SET llm_api_key = '***';" in done.stdout
    assert "sk-canary" not in done.stdout + done.stderr
    failed = inside("--set", "llm_base_url=http://u:sk-canary@h:port", "-c", "SELECT 1")
    assert "sk-canary" not in failed.stdout + failed.stderr
