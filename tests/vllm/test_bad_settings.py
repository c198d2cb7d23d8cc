"""A vLLM server that was started badly: rows are right, and each flag that would help is told."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import quackllm
from tests.vllm.conftest import FILMS
from tools.vllm_server import Launch, Running, free_port, start

pytestmark = pytest.mark.vllm


@pytest.fixture
def bad_server(vllm_url: str, tmp_path: Path) -> Iterator[Running]:
    """A second server of the same model, with every setting that wastes time."""
    python = os.environ.get("QUACKLLM_VLLM_PYTHON")
    if not python:
        pytest.skip("no vLLM to start: make test-vllm names its Python")
    [card] = httpx.get(f"{vllm_url}/models").json()["data"]
    launch = Launch(
        python,
        Path(card["root"]),
        "badly-started",
        free_port(),
        block_size=128,
        max_model_len=512,
        cache_gib=1,
        prefix_caching=False,
        more=("--max-num-seqs", "2", "--enforce-eager"),
    )
    server = start(launch, tmp_path / "vllm.log")
    try:
        yield server
    finally:
        server.stop()


def test_each_flag_that_would_help_is_told_once(
    bad_server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "quackllm"),
        quackllm.connect(base_url=bad_server.base_url, progress=False, cache=False) as con,
    ):
        con.execute(FILMS)
        con.execute("INSERT INTO films SELECT 99, 'Long', repeat('word ', 2000)")
        rows = con.execute(
            "SELECT LLM_FILTER('Is it sad?', synopsis) IS NOT NULL, count(*) FROM films GROUP BY 1"
        ).fetchall()
        con.execute(
            "SELECT LLM('Say it shorter', title, range, max_tokens := 8) "
            "FROM films, range(2) WHERE id < 40"
        ).fetchall()
    assert sorted(rows) == [(False, 1), (True, 40)]
    told = [line for line in caplog.messages if "this vLLM server" in line]
    flags = ("--enable-prefix-caching and --block-size", "--max-model-len", "--max-num-seqs")
    assert [sum(flag in line for line in told) for flag in flags] == [1, 1, 1], told
    assert len(told) == 3
