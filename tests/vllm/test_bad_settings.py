"""A vLLM server that was started badly: rows are right, and each flag that would help is told."""

from __future__ import annotations

import logging

import pytest

import quackllm
from tests.vllm.conftest import FILMS, SecondServer

pytestmark = pytest.mark.vllm


def test_each_flag_that_would_help_is_told_once(
    second_server: SecondServer, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "quackllm"),
        quackllm.connect(base_url=second_server.base_url, progress=False, cache=False) as con,
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
