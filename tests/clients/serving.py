"""`quackllm serve` as a process of its own, over a fake model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import quackllm
from quackllm.testing import FakeServer


@contextmanager
def served(model: FakeServer, folder: Path, tables: str = "SELECT 1") -> Iterator[str]:
    """Serve a database called shop, made of statements, in a folder; yield host:port."""
    path = folder / "shop.duckdb"
    with quackllm.connect(path, progress=False) as connection:
        connection.execute(tables)
    command: list[str | Path] = [sys.executable, "-m", "quackllm", "serve", path, "--port", "0"]
    options = ["--base-url", model.base_url, "--model", "fake-model"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield process.stderr.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(30)
