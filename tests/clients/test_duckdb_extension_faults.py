"""The extension and an engine that lies: no answer makes the shell crash, hang or invent rows."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clients.duckdb_shell import EXTENSION, ROOT, SHELL, Shell, program

pytestmark = pytest.mark.clients

if not program(SHELL).exists() or not EXTENSION.exists():
    pytest.skip("no shell or no extension (make test-clients)", allow_module_level=True)

STATEMENTS = [
    "SELECT LLM('Say', i) FROM range(3) r(i);",
    "SELECT LLM_FILTER('Say', i) FROM range(3) r(i);",
    "FROM llm('SELECT 1');",
    "SELECT count(*) FROM llm('SELECT 1') WHERE c0 IS NOT NULL;",
]


@pytest.fixture
def environment(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    script = tmp_path / "python"
    command = shlex.join([sys.executable, "-m", "tests.clients.lying_engine", str(request.param)])
    script.write_text(f"#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {command}\n")
    script.chmod(0o700)
    tmp_path.chmod(0o700)
    yield {"QUACKLLM_PYTHON": str(script), "XDG_RUNTIME_DIR": str(tmp_path)}
    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get("XDG_RUNTIME_DIR") == str(tmp_path):
            process.kill()


@pytest.mark.parametrize("environment", [1, 2, 3], indirect=True)
def test_malformed_answers_are_errors_and_the_shell_goes_on(environment: dict[str, str]) -> None:
    refused = 0
    with Shell(SHELL, environment, [f"LOAD '{EXTENSION}';"]) as shell:
        for turn in range(100):
            refused += " Error: " in shell.run(STATEMENTS[turn % len(STATEMENTS)])
        assert "42" in shell.run("SELECT 42;").split()
        assert shell.end() in (0, 1)  # 1: there were errors; less than 0: a signal
    assert refused > 10
