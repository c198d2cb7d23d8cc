"""A vLLM server on this machine, for development and tests: start, stop, status.

    python -m tools.vllm_server start --python .venv-vllm/bin/python --model DIRECTORY
    python -m tools.vllm_server stop

The server listens on the loopback only. What it was started as is written to a state file,
its output to a log beside it; `stop` ends the whole process group.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

LONGEST_START = 600.0
LONGEST_STOP = 30.0
LOG_LINES_SHOWN = 30

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Lets benchmarks empty the prefix cache between runs.
    "VLLM_SERVER_DEV_MODE": "1",
}


class ServerFailed(Exception):
    """The server did not start; the message ends with what it wrote last."""


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    python: interpreter of an environment with vLLM.
    model: directory with weights, configuration and tokenizer.
    block_size: tokens per block of the prefix cache, None for vLLM's own choice.
    cache_gib: memory for the KV cache on a CPU, GiB.
    """

    python: str
    model: Path
    name: str
    port: int
    block_size: int | None = 32
    max_model_len: int = 4096
    cache_gib: int = 2
    prefix_caching: bool = True
    more: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Return the command line. vLLM's CPU build has no `vllm` command that works."""
        flags = {
            "--model": str(self.model),
            "--served-model-name": self.name,
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--max-model-len": str(self.max_model_len),
            "--dtype": "bfloat16",
        }
        if self.block_size is not None:
            flags["--block-size"] = str(self.block_size)
        written = [part for pair in flags.items() for part in pair]
        caching = "--enable-prefix-caching" if self.prefix_caching else "--no-enable-prefix-caching"
        entry = [self.python, "-m", "vllm.entrypoints.openai.api_server"]
        return [*entry, *written, caching, "--enable-prompt-tokens-details", *self.more]


@dataclass(frozen=True)
class Running:
    """A server that was started. base_url ends with '/v1'."""

    pid: int
    port: int
    name: str

    @property
    def base_url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/v1"

    def alive(self) -> bool:
        """Whether the process exists."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return not _is_zombie(self.pid)

    def ready(self) -> bool:
        """Whether the server answers."""
        try:
            health = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2.0)
        except httpx.TransportError:
            return False
        return health.status_code == httpx.codes.OK

    def stop(self) -> None:
        """End the server and its workers; returns when they are gone."""
        for wanted in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, wanted)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + LONGEST_STOP
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.1)


def start(launch: Launch, log: Path) -> Running:
    """Start a server and wait until it answers. Raises `ServerFailed`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "VLLM_CPU_KVCACHE_SPACE": str(launch.cache_gib),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.command(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    server = Running(process.pid, launch.port, launch.name)
    deadline = time.monotonic() + LONGEST_START
    while not server.ready():
        if process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            last = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            raise ServerFailed("vLLM did not start; it wrote:\n" + "\n".join(last))
        time.sleep(0.5)
    return server


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only its parent has not looked."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "Z"


def _remembered(state: Path) -> Running | None:
    try:
        server = Running(**json.loads(state.read_text()))
    except FileNotFoundError:
        return None
    return server if server.alive() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, default=Path(".vllm/server.json"))
    commands = parser.add_subparsers(dest="command", required=True)
    begin = commands.add_parser("start", help="start a server unless one runs")
    begin.add_argument("--python", default=sys.executable)
    begin.add_argument("--model", type=Path, required=True)
    begin.add_argument("--name", default="smollm2-135m-instruct")
    begin.add_argument("--port", type=int, default=8000)
    begin.add_argument("--block-size", type=int, default=32)
    begin.add_argument("more", nargs="*", metavar="FLAG", help="vLLM's own flags, after --")
    commands.add_parser("stop", help="end the server")
    commands.add_parser("status", help="say whether a server runs, and where")
    return parser


def main() -> int:
    """Carry out one command; returns the exit status."""
    given = _parser().parse_args()
    state: Path = given.state
    server = _remembered(state)
    if given.command == "start" and server is None:
        launch = Launch(
            given.python,
            given.model,
            given.name,
            given.port,
            given.block_size,
            more=tuple(given.more),
        )
        try:
            server = start(launch, state.with_suffix(".log"))
        except ServerFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        state.write_text(json.dumps(asdict(server)))
    elif given.command == "stop" and server is not None:
        server.stop()
        server = None
    if server is None:
        state.unlink(missing_ok=True)
        print("no vLLM server of this folder runs")
        return 0
    print(f"vLLM serves {server.name} at {server.base_url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
