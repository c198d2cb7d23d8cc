"""The shell's modes and commands beside those of DuckDB's own shell, which is run here."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import quackllm
from quackllm.server.formats.rows import Look
from quackllm.server.output import FORMATS
from quackllm.server.shell.dot_commands import COMMANDS, ELSEWHERE
from tests.clients.duckdb_shell import SHELL, program

pytestmark = pytest.mark.clients

if not program(SHELL).exists():
    pytest.skip("DuckDB's shell 1.5.5 is not installed (make clients)", allow_module_level=True)

SQL = """SELECT 1 AS id, 'it''s, "so"' AS "a b", NULL::VARCHAR AS n, [1, 2] AS l, 1.5::DOUBLE AS d, true AS t
UNION ALL SELECT 200, 'tab', '', NULL, -7, false"""

OTHERWISE = {
    "csv": "NULL is an empty field, '' a quoted one, lines end with \\n",
    "tabs": "NULL is an empty field; tabs and line ends in values are escaped",
    "html": "a row is one line",
    "json": "objects stand on lines of their own",
    "insert": "names are quoted always, booleans are booleans",
    "latex": "values are not filled up, LaTeX's own characters are escaped",
    "markdown": "values are not filled up",
    "line": "names are aligned without five characters at least",
    "ascii": "DuckDB 1.5.5 writes line ends in the place of ASCII's separators",
    "trash": "",
    "column": "lines do not end with blanks",
    "tcl": "brackets and dollars are escaped, which Tcl would read",
}
"""Modes that are not to the letter as in DuckDB's shell, and why."""


def shell(*lines: str) -> str:
    done = subprocess.run(
        [program(SHELL), "-unsigned"], input="\n".join(lines) + "\n", capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_every_mode_of_duckdbs_is_there() -> None:
    listed = shell(".mode nosuch").partition("one of:")[2].split()
    assert len(listed) > 15
    assert set(listed) == set(FORMATS)


@pytest.mark.parametrize("style", sorted(set(FORMATS) - set(OTHERWISE)))
def test_a_mode_looks_as_in_duckdbs(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = shell(f".mode {style}", f"{SQL};")
    with quackllm.connect(progress=False) as con:
        FORMATS[style](con.sql(SQL), sys.stdout, Look())
    assert capsys.readouterr().out.rstrip("\n") == expected.rstrip("\n")


def test_commands_of_duckdbs_are_there_or_said_to_be_elsewhere() -> None:
    listed = set(
        re.findall(r"^\.(\w+)", re.sub(r"\x1b\[[0-9;]*m", "", shell(".help")), re.MULTILINE)
    )
    ours = {command.name for command in COMMANDS} | set(ELSEWHERE)
    assert len(listed) > 40
    assert listed - ours == MISSING


MISSING = {
    "bail", "binary", "changes", "decimal_sep", "display_colors", "echo", "highlight",
    "highlight_colors", "highlight_errors", "highlight_mode", "highlight_results",
    "large_number_rendering", "multiline", "read_line_version", "render_completion",
    "render_errors", "safe_mode", "singleline", "startup_text", "thousand_sep", "ui_command",
}  # fmt: skip
"""What concerns DuckDB's own line editor and drawing."""
