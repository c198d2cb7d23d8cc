"""The systems under test, each a process of its own environment that is given jobs."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.peers.exchange import Done, Job, line_of, result_of

ROOT = Path(__file__).resolve().parents[2]
LONGEST_START = 300.0

ENVIRONMENT = {
    # litellm and transformers would look for price lists and tokenizers elsewhere.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class SystemFailed(Exception):
    """A system did not start, or ended."""


class TookTooLong(Exception):
    """A job was not done in its time."""


@dataclass(frozen=True)
class System:
    """A system. package: its name on PyPI; '' for this repository's own."""

    name: str
    package: str

    def python(self, environments: Path) -> Path:
        """Return the interpreter of its environment, as `make peers` makes it."""
        return environments / self.name / "bin" / "python" if self.package else Path(sys.executable)

    def version(self, environments: Path) -> str:
        """Return the version that is installed."""
        asked = (
            f"from importlib.metadata import version; print(version('{self.package or self.name}'))"
        )
        command = [str(self.python(environments)), "-c", asked]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


SYSTEMS = (
    System("quackllm", ""),
    System("lotus", "lotus-ai"),
    System("blendsql", "blendsql"),
    System("palimpzest", "palimpzest"),
)


class Process:
    """A system that runs, and its log."""

    def __init__(self, system: System, environments: Path, url: str, model: str, log: Path) -> None:
        """Start it. Raises `SystemFailed`."""
        package = "benchmarks.peers" if not system.package else "peers"
        # Not the repository itself for a peer: its environment does not have quackllm.
        path = ROOT if not system.package else ROOT / "benchmarks"
        python = str(system.python(environments))
        self._rest = b""
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [python, "-m", f"{package}.{system.name}_side", url, model],
                cwd=log.parent,  # some leave files behind
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(path)},
                start_new_session=True,
            )
        try:
            self._line(LONGEST_START)
        except (SystemFailed, TookTooLong) as error:
            self.close()
            raise SystemFailed(f"{system.name} did not start, see {log}") from error

    def run(self, job: Job, seconds: float) -> Done:
        """Run one job. Raises `TookTooLong` and `SystemFailed`."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write((line_of(job) + "\n").encode())
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise SystemFailed("the process has ended") from error
        return result_of(self._line(seconds))

    def close(self) -> None:
        """End the process and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, seconds: float) -> str:
        assert self._child.stdout is not None
        until = time.monotonic() + seconds
        pipe = self._child.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TookTooLong(f"not done after {seconds:.0f} s")
            read = os.read(pipe, 1 << 16)
            if not read:
                raise SystemFailed("the process has ended")
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


def chosen(names: Sequence[str]) -> tuple[System, ...]:
    """Return the systems of these names, all of them for none."""
    return tuple(system for system in SYSTEMS if not names or system.name in names)
