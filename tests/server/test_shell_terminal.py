"""The shell as a person has it: keys typed at a real terminal, what is drawn there."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from quackllm.testing import FakeServer

PROMPT = "quackllm>"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")

Start = Callable[..., "Terminal"]


class Terminal:
    """A shell in a terminal of its own.

    typed: what was drawn while the last statement was typed.
    """

    def __init__(self, state: Path, *arguments: str) -> None:
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "XDG_STATE_HOME": str(state),
        }
        self.process: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            ["-m", "quackllm", *arguments],
            env=environment,
            encoding="utf-8",
            dimensions=(40, 120),
            timeout=60,
        )
        self.typed = ""
        self.prompted()

    def prompted(self) -> str:
        """Wait until the shell asks for input; return what it drew before, without colours."""
        self.process.expect_exact(PROMPT)
        return ESCAPES.sub("", str(self.process.before))

    def enter(self, text: str) -> str:
        """Type a text and Enter; return what is drawn until the shell asks again."""
        self.process.send(text + "\r")
        # The first prompt is the typed line, drawn once more without its completions.
        self.process.expect_exact("\x1b[?2004l")
        self.typed = ESCAPES.sub("", str(self.process.before))
        return self.prompted()

    def completed(self, text: str, rest: str) -> None:
        """Type a text and Tab; wait until it is completed."""
        self.process.send(text)
        self.process.expect_exact(text[-3:])
        self.process.send("\t")
        self.process.expect_exact(rest)

    def leave(self) -> int | None:
        """Press Ctrl-D; return the exit status."""
        self.process.send("\x04")
        self.process.expect(pexpect.EOF)
        self.process.close()
        return self.process.exitstatus


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Terminal] = []

    def begin(*arguments: str) -> Terminal:
        started.append(Terminal(tmp_path, *(arguments or ("--set", "llm_provider=fake"))))
        return started[-1]

    yield begin
    for terminal in started:
        terminal.process.close(force=True)


def test_a_session(start: Start, tmp_path: Path) -> None:
    shell = start()
    shell.enter(
        "CREATE TABLE films AS SELECT range AS id, 'Film ' || range AS title FROM range(3);"
    )
    shown = shell.enter("SELECT title, LLM_FILTER('odd?', title) AS odd FROM films;")
    assert "│ boolean │" in shown
    assert "-- 3 calls · " in shown
    assert "● model 1" in shell.enter("EXPLAIN SELECT LLM('why?', title) FROM films;")
    assert "Binder Error: " in shell.enter("SELECT nothing FROM films;")
    script = tmp_path / "s.sql"
    script.write_text(
        ".mode csv\nSELECT 'from a\nfile' AS a; SELECT 2 AS b;\n.mode box\nSELECT 3 AS c;"
    )
    shown = shell.enter(f".read {script}")
    assert 'a\n"from a\nfile"\nb\n2\n' in shown
    assert "│ 3 │" in shown
    shell.enter(".timer on")
    assert "Run Time (s): real" in shell.enter("SELECT 1;")
    assert shell.leave() == 0


def test_many_lines_history_and_completion(start: Start) -> None:
    shell = start()
    shell.enter("CREATE TABLE films AS SELECT 'Up' AS title;")
    shown = shell.enter("SELECT title\rFROM films\r;")
    assert "... FROM films" in shell.typed
    assert "│ Up      │" in shown
    shell.enter(".mode csv")
    shell.completed("SELECT upper(tit", "le")
    shell.completed(") AS u FROM fil", "ms")
    assert shell.enter(";").endswith("u\nUP\n")
    shown = shell.enter("\x1b[A")
    assert shown.endswith("u\nUP\n")
    shell.leave()
    again = start()
    again.enter(".mode csv")
    again.process.send("\x12upper")  # Ctrl-R, of the session before
    again.process.expect_exact("films;")
    again.process.send("\x03")


def test_ctrl_c_ends_the_calls_and_the_shell_goes_on(start: Start) -> None:
    with FakeServer(flavor="vllm", latency=30.0) as slow:
        shell = start("--base-url", slow.base_url, "--model", slow.models[0])
        shell.process.send("SELECT LLM('Say it', range) FROM range(100);\r")
        deadline = time.monotonic() + 30
        while slow.calls == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        shell.process.send("\x03")
        shell.process.expect_exact("Interrupted", timeout=20)
        shell.prompted()
        assert "│     7 │" in shell.enter("SELECT 7 AS seven;")
        assert shell.leave() == 0


def test_a_progress_bar_is_drawn_while_models_are_asked(start: Start) -> None:
    with FakeServer(flavor="vllm", latency=0.5) as server:
        shell = start("--base-url", server.base_url, "--set", "llm_concurrency=4")
        shown = shell.enter("SELECT LLM_FILTER('odd?', range) AS odd FROM range(12);")
        assert "LLM_FILTER" in shown.partition("┌")[0]
        assert "12 calls" in shown


def test_another_database_is_opened_with_the_same_settings(start: Start, tmp_path: Path) -> None:
    shell = start()
    shell.enter(f".open {tmp_path}/x.duckdb")
    shell.enter("CREATE TABLE kept AS SELECT LLM_FILTER('odd?', 1) AS odd;")
    assert "No such" in shell.enter(".open /no/such/folder/x.duckdb") + shell.enter("")
    assert "kept" in shell.enter(".tables")
    shell.enter(f".open --readonly {tmp_path}/x.duckdb")
    assert "read-only" in shell.enter("DROP TABLE kept;")
    shell.process.send(".exit 3\r")
    shell.process.expect(pexpect.EOF)
    shell.process.close()
    assert shell.process.exitstatus == 3
