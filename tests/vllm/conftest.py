"""A real vLLM server, which `make test-vllm` starts and names in QUACKLLM_VLLM_URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import quackllm
from quackllm.engine.connection import Connection
from tools.vllm_server import Launch, Running, free_port, start

FILMS = """
CREATE TABLE films AS
SELECT i AS id, 'Film number ' || i AS title,
    'A ' || ['warm', 'dark', 'slow', 'loud'][i % 4 + 1] || ' story. ' || repeat(
        ['The ducks cross the lake at night and nobody in the village hears them. ',
         'A train leaves for the north with a letter that must not arrive in time. '][i % 2 + 1],
        4) AS synopsis
FROM range(40) r(i)
"""


@pytest.fixture(scope="session")
def vllm_url() -> str:
    """The address of the server, with its '/v1'."""
    url = os.environ.get("QUACKLLM_VLLM_URL")
    if not url:
        pytest.skip("no vLLM server: make test-vllm starts one")
    return url


class SecondServer:
    """A server of the same model that tests may stop, started with every setting that wastes
    time."""

    def __init__(self, python: str, model: Path, log: Path) -> None:
        self._launch = Launch(
            python,
            model,
            "badly-started",
            free_port(),
            block_size=128,
            max_model_len=512,
            cache_gib=1,
            prefix_caching=False,
            more=("--max-num-seqs", "2", "--enforce-eager"),
        )
        self._log = log
        self._running: Running | None = None

    @property
    def base_url(self) -> str:
        """Where it answers, the same after every start."""
        return f"http://127.0.0.1:{self._launch.port}/v1"

    def start(self) -> None:
        """Start it unless it runs; returns when it answers."""
        if self._running is None:
            self._running = start(self._launch, self._log)

    def stop(self) -> None:
        """End it as a supervisor would; returns when it is gone."""
        if self._running is not None:
            self._running.stop()
            self._running = None


@pytest.fixture(scope="session")
def second_server(
    vllm_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecondServer]:
    """A second server, running."""
    python = os.environ.get("QUACKLLM_VLLM_PYTHON")
    if not python:
        pytest.skip("no vLLM to start: make test-vllm names its Python")
    [card] = httpx.get(f"{vllm_url}/models").json()["data"]
    log = tmp_path_factory.mktemp("second") / "vllm.log"
    server = SecondServer(python, Path(card["root"]), log)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def last(con: Connection) -> dict[str, Any]:
    """Return what the last statement cost, as llm_queries() says it."""
    table = con.sql("FROM llm_queries() ORDER BY statement DESC LIMIT 1").to_arrow_table()
    row: dict[str, Any] = table.to_pylist()[0]
    return row


@pytest.fixture
def con(vllm_url: str) -> Iterator[Connection]:
    """A connection whose model is the server's, with forty films of two synopses."""
    connection = quackllm.connect(base_url=vllm_url, progress=False)
    connection.execute(FILMS)
    yield connection
    connection.close()
