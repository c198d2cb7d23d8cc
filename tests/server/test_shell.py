"""The shell: what is typed runs, what is wrong is said, and the shell goes on."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import quackllm
from quackllm.server.shell.completion import NamesCompleter
from quackllm.server.shell.shell import KeylessHistory, Shell, is_complete
from quackllm.testing import FakeProvider


@pytest.fixture
def con() -> Iterator[Any]:
    made = quackllm.connect(provider=FakeProvider(), progress=False)
    made.execute('CREATE TABLE films (id INTEGER, title VARCHAR, "a b" VARCHAR)')
    made.execute("INSERT INTO films SELECT range, 'Film ' || range % 3, NULL FROM range(9)")
    yield made
    made.close()


def typed(con: Any, *lines: str) -> None:
    """Type lines and Enter behind each, then Ctrl-D."""
    with create_pipe_input() as keys:
        shell = Shell(con, history=InMemoryHistory(), input=keys, output=DummyOutput())
        for line in lines:
            keys.send_text(line + "\r")
        keys.send_text("\x04")
        shell.run()


Captured = pytest.CaptureFixture[str]


def test_a_statement_shows_its_rows_and_what_it_cost(con: Any, capsys: Captured) -> None:
    typed(con, "SELECT id, LLM_FILTER('odd?', title) AS odd FROM films;")
    shown = capsys.readouterr()
    assert "boolean" in shown.out
    assert "3 calls" in shown.err


def test_a_statement_may_have_many_lines(con: Any, capsys: Captured) -> None:
    typed(con, ".mode csv", "SELECT count(*) AS n", "FROM films -- all;", ";")
    assert capsys.readouterr().out == "n\n9\n"


def test_several_statements_run_up_to_the_first_that_fails(con: Any, capsys: Captured) -> None:
    typed(con, ".mode csv", "SELECT 1 AS a; SELECT nothing; SELECT 2 AS b;", "SELECT 3 AS c;")
    shown = capsys.readouterr()
    assert shown.out == "a\n1\nc\n3\n"
    assert "nothing" in shown.err


def test_ctrl_c_drops_what_was_typed(con: Any, capsys: Captured) -> None:
    with create_pipe_input() as keys:
        shell = Shell(con, history=InMemoryHistory(), input=keys, output=DummyOutput())
        keys.send_text("SELECT 'half\r\x03.mode csv\rSELECT 1 AS a;\r\x04")
        shell.run()
    assert capsys.readouterr().out == "a\n1\n"


def test_quit_leaves(con: Any, capsys: Captured) -> None:
    typed(con, ".quit", "SELECT 1 AS a;")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        (".mode", True),
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT 1; ", True),
        ("SELECT ';", False),
        ("SELECT 1 -- ;", False),
        ("SELECT 1; -- done", True),
        ("SELECT $$ ; $$", False),
        ('SELECT ";"', False),
        ("-- only a comment", True),
        ("/* open ;", False),
    ],
)
def test_enter_runs_what_a_semicolon_ends(text: str, complete: bool) -> None:
    assert is_complete(text) == complete


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (".mod csv", '".mode"'),
        (".mode nothing", "jsonlines"),
        (".nosuch", '".help" lists all'),
        (".excel", ".once file.csv"),
        (".maxrows 0", "from 1 on"),
        (".open a b", "one file"),
        (".once", "|command"),
        (".timer", "on or off"),
        (".read", "one file"),
        (".read /no/such.sql", "No such file"),
        (".read 'open", "No closing quotation"),
    ],
)
def test_a_wrong_command_says_what_would_be_right(
    con: Any, capsys: Captured, command: str, said: str
) -> None:
    typed(con, command)
    assert said in capsys.readouterr().err


def test_commands(con: Any, capsys: Captured, tmp_path: Path) -> None:
    script = tmp_path / "a script.sql"
    script.write_text("SELECT 7 AS seven;\nSELECT 8 AS eight;")
    typed(con, ".mode csv", f".read '{script}'", ".tables fil%", ".schema films", ".mode", ".help")
    out = capsys.readouterr().out
    assert "seven\n7\neight\n8\n" in out
    assert "memory,main,films" in out
    assert "CREATE TABLE films" in out
    assert "\ncsv\n" in out
    assert ".timer on|off" in out


def test_the_timer_tells_seconds(con: Any, capsys: Captured) -> None:
    typed(con, ".timer on", "SELECT 1;", ".timer off", "SELECT 1;")
    assert capsys.readouterr().err.count("Run Time (s): real") == 1


MODES = [
    ("line", "title = Film 0\n  a b = NULL\n"),
    ("tabs", "title\ta b\nFilm 0\t\n"),
    ("jsonlines", '{"title":"Film 0","a b":null}\n'),
]


@pytest.mark.parametrize(("mode", "shown"), MODES)
def test_modes(con: Any, capsys: Captured, mode: str, shown: str) -> None:
    typed(con, f".mode {mode}", 'SELECT title, "a b" FROM films LIMIT 1;')
    assert capsys.readouterr().out == shown


def completions(con: Any, text: str) -> list[str]:
    found = NamesCompleter(con).get_completions(Document(text), CompleteEvent())
    return [completion.text for completion in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT tit", "title"),
        ("FROM fi", "films"),
        ("SELECT llm_cl", "LLM_CLASSIFY"),
        ("SELECT films.ti", "title"),
        ("SELECT films.a", '"a b"'),
        ("FROM main.fi", "films"),
        ("SET llm_mod", "llm_model"),
        ("SET thr", "threads"),
        ("sel", "SELECT"),
        (".mo", "mode"),
        (".mode js", "json"),
        (".schema fi", "films"),
    ],
)
def test_tab_completes(con: Any, text: str, expected: str) -> None:
    assert expected in completions(con, text)


def test_completion_never_calls_a_model(con: Any) -> None:
    con.execute("CREATE VIEW odd AS SELECT LLM_FILTER('odd?', title) AS is_odd FROM films")
    assert completions(con, "SELECT is_o") == ["is_odd"]
    assert sum(stats.calls for stats in con.llm_engine.history) == 0


def test_names_are_read_again_after_a_statement(con: Any) -> None:
    names = NamesCompleter(con)

    def complete() -> list[str]:
        found = names.get_completions(Document("FROM new_t"), CompleteEvent())
        return [completion.text for completion in found]

    assert complete() == []
    con.execute("CREATE TABLE new_table AS SELECT 1 AS a")
    names.forget()
    assert complete() == ["new_table"]


def test_keys_are_not_in_the_history(tmp_path: Path) -> None:
    history = KeylessHistory(str(tmp_path / "history"))
    history.append_string("SET llm_api_key = 'sk-secret-1';")
    history.append_string("SELECT 'kept';")
    stored = (tmp_path / "history").read_text()
    assert "sk-secret-1" not in stored
    assert "kept" in stored


def test_a_terminal_gets_the_shell(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "quackllm", "--set", "llm_provider=fake"],
        stdin=follower, stdout=follower, stderr=follower, env=environment, close_fds=True,
    )  # fmt: skip
    os.close(follower)
    shown = _read_until(leader, "quackllm>")
    os.write(leader, b"SELECT LLM_FILTER('odd?', 1) IS NOT NULL AS answered;\r")
    shown += _read_until(leader, "1 call")
    os.write(leader, b".quit\r")
    assert process.wait(timeout=30) == 0
    os.close(leader)
    assert "answered" in shown
    assert "Traceback" not in shown
    history = tmp_path / "quackllm" / "history"
    assert "answered" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def _read_until(terminal: int, text: str) -> str:
    shown, deadline = "", time.monotonic() + 60
    while text not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    assert text in shown, shown
    return shown
