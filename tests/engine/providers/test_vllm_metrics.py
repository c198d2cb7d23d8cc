"""What vLLM says of its prefix cache is read, used for the order, and wasteful settings told."""

from __future__ import annotations

import logging

import pytest

import quackllm
from quackllm.engine.providers.vllm_metrics import PrefixCache, advice, read_prefix_cache
from quackllm.testing import FakeServer

GOOD = """\
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",cache_dtype="auto",enable_prefix_caching="True",\
kv_cache_size_tokens="93184",num_gpu_blocks="2912",num_cpu_blocks="None"} 1.0
"""


def test_block_size_and_size_are_read() -> None:
    assert read_prefix_cache(GOOD) == PrefixCache(32, 93184, True)


def test_an_older_server_gives_the_number_of_blocks() -> None:
    older = GOOD.replace('kv_cache_size_tokens="93184",', "")
    assert read_prefix_cache(older) == PrefixCache(32, 32 * 2912, True)


@pytest.mark.parametrize("metrics", [None, {}, "", "vllm:num_requests_running 0.0", "\x00{"])
def test_metrics_that_say_nothing_of_a_cache_leave_it_unknown(metrics: object) -> None:
    assert read_prefix_cache(metrics) is None
    assert advice(None) is None


def test_what_is_no_number_is_unknown() -> None:
    odd = GOOD.replace('"32"', '"None"').replace('"93184"', '"-1"').replace('"2912"', '"x"')
    assert read_prefix_cache(odd) == PrefixCache(None, None, True)


@pytest.mark.parametrize(
    ("wasteful", "flag"),
    [
        (GOOD.replace('caching="True"', 'caching="False"'), "--enable-prefix-caching"),
        (GOOD.replace('block_size="32"', 'block_size="128"'), "--block-size"),
    ],
)
def test_a_wasteful_setting_is_told_once_with_the_flag_that_helps(
    wasteful: str, flag: str, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeServer(flavor="vllm", metrics=wasteful) as server:
        con = quackllm.connect(base_url=server.base_url, progress=False)
        with caplog.at_level(logging.INFO, "quackllm"):
            for prompt in ("first", "second"):
                con.execute(f"SELECT LLM('{prompt}', range) FROM range(3)").fetchall()
        con.close()
    assert [flag in record.getMessage() for record in caplog.records] == [True]


def test_a_good_server_is_not_advised_and_the_table_of_models_shows_its_cache() -> None:
    assert advice(read_prefix_cache(GOOD)) is None
    with FakeServer(flavor="vllm", metrics=GOOD) as server:
        con = quackllm.connect(base_url=server.base_url, progress=False)
        con.execute("SELECT LLM('x', range) FROM range(3)").fetchall()
        shown = con.execute("SELECT prefix_granularity, cache_tokens FROM llm_models()").fetchall()
        con.close()
    assert shown == [(32, 93184)]


def test_rows_are_not_ordered_for_a_server_without_a_prefix_cache() -> None:
    off = GOOD.replace('caching="True"', 'caching="False"')
    sent: dict[str, list[str]] = {}
    for name, metrics in (("on", GOOD), ("off", off)):
        with FakeServer(flavor="vllm", metrics=metrics) as server:
            con = quackllm.connect(base_url=server.base_url, progress=False, concurrency=1)
            con.execute(
                "SELECT LLM('x', id, body) FROM (SELECT range AS id, "
                "repeat(chr(97 + (range % 3)::INTEGER), 400) AS body FROM range(9)) t"
            ).fetchall()
            sent[name] = [
                request.body["messages"][-1]["content"][:8]
                for request in server.received
                if request.method == "POST"
            ]
            con.close()
    assert all(text.startswith('{"id"') for text in sent["off"])
    assert all(text.startswith('{"body"') for text in sent["on"])
