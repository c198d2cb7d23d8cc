"""DuckDB's own shells: where they are, and a script run in one of them."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
SHELL = Path(os.environ.get("QUACKLLM_DUCKDB_SHELL", ROOT / ".venv-duckdb-shell"))
"""Version 1.5.5, the last one that has the extension for PostgreSQL."""
NEWEST = Path(os.environ.get("QUACKLLM_DUCKDB_SHELL_NEWEST", ROOT / ".venv-duckdb-shell-newest"))
EXTENSION = Path(
    os.environ.get("QUACKLLM_DUCKDB_EXTENSION", ROOT / "build" / "quackllm.duckdb_extension")
)
MARK = "=== next"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE_SECONDS = 120.0


def program(folder: Path) -> Path:
    """Return the shell itself in a virtual environment: `bin/duckdb` is a script around it."""
    found = (path for path in folder.rglob("duckdb_cli/duckdb") if path.is_file())
    return next(found, folder / "duckdb_cli" / "duckdb")


class Shell:
    """A shell that is typed into."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        first: Sequence[str] = (),
        database: str = ":memory:",
    ) -> None:
        self.process = subprocess.Popen(
            [program(folder), "-unsigned", "-no-init", "-interactive", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            env={**os.environ, **environment},
        )
        self.run(".mode csv\n.nullvalue NULL\n" + "\n".join(first))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def type(self, text: str) -> None:
        """Type lines, and do not wait for what they print."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n.print {MARK}\n")
        self.process.stdin.flush()

    def printed(self) -> str:
        """Return what was printed for the lines typed last; kills a shell that hangs."""
        assert self.process.stdout is not None
        lines: list[str] = []
        watchdog = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                plain = COLOUR.sub("", line)
                if plain.strip() == MARK:
                    return "".join(lines)
                lines.append(plain)
        finally:
            watchdog.cancel()
        raise AssertionError("the shell ended, or was killed: " + "".join(lines))

    def run(self, text: str) -> str:
        """Type lines; return what they print, errors too."""
        self.type(text)
        return self.printed()

    def end(self) -> int:
        """End the shell as .exit does; return its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=30)


def outputs(
    folder: Path,
    first: Sequence[str],
    statements: Sequence[str],
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run statements in one shell; return what each of them printed, errors too.

    first: commands before them, whose output counts for nothing.
    """
    script = [".mode csv", ".nullvalue NULL", *first]
    for statement in statements:
        script += [f".print {MARK}", f"{statement};"]
    done = subprocess.run(
        [program(folder), "-unsigned", "-no-init", *arguments],
        input="\n".join(script) + "\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
        env=None if environment is None else {**os.environ, **environment},
    )
    before, *printed = done.stdout.split(f"{MARK}\n")
    assert len(printed) == len(statements), before + done.stdout
    return printed
