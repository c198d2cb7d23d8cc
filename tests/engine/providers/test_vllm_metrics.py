"""What vLLM says of its prefix cache is read, used for the order, and wasteful settings told."""

from __future__ import annotations

import logging

import pytest

import quackllm
from quackllm.engine.providers.base import Reply, Usage
from quackllm.engine.providers.vllm_hints import cache_advice, queue_advice
from quackllm.engine.providers.vllm_metrics import (
    PrefixCache,
    Queue,
    read_prefix_cache,
    read_queue,
)
from quackllm.testing import FakeServer

GOOD = """\
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",cache_dtype="auto",enable_prefix_caching="True",\
kv_cache_size_tokens="93184",num_gpu_blocks="2912",num_cpu_blocks="None"} 1.0
"""


# Of vLLM 0.32, started with --no-enable-prefix-caching --block-size 128 --max-num-seqs 2
# --max-model-len 512, while 60 stories were asked for.
BAD = """\
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 58.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 58.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.0020618556701030855
vllm:cache_config_info{_block_size_resolved="True",block_size="128",cache_dtype="auto",\
enable_prefix_caching="False",engine="0",kv_cache_size_tokens="46592",num_gpu_blocks="364"} 1.0
"""


def test_block_size_and_size_are_read() -> None:
    assert read_prefix_cache(GOOD) == PrefixCache(32, 93184, True)


def test_an_older_server_gives_the_number_of_blocks() -> None:
    older = GOOD.replace('kv_cache_size_tokens="93184",', "")
    assert read_prefix_cache(older) == PrefixCache(32, 32 * 2912, True)


@pytest.mark.parametrize("metrics", [None, {}, "", "vllm:num_requests_running 0.0", "\x00{"])
def test_metrics_that_say_nothing_of_a_cache_leave_it_unknown(metrics: object) -> None:
    assert read_prefix_cache(metrics) is None
    assert cache_advice(None) is None


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


def told_by(
    caplog: pytest.LogCaptureFixture, server: FakeServer, call: str, rows: int = 60
) -> list[str]:
    """Return the hints that rows of a call bring."""
    caplog.clear()
    with (
        caplog.at_level(logging.INFO, "quackllm"),
        quackllm.connect(base_url=server.base_url, progress=False, cache=False) as con,
    ):
        for question in ("one", "two"):
            sql = f"SELECT {call} FROM (SELECT '{question} ' || range AS x FROM range({rows}))"
            con.execute(sql).fetchall()
    said = [record.getMessage() for record in caplog.records]
    return [line.partition(": ")[2] for line in said if "this vLLM server" in line]


STORY = "LLM('Tell a story', x)"


def story(_: object) -> Reply:
    return Reply("once upon a time there was a duck", Usage(100, 12, 32))


def test_a_server_with_several_bad_settings_is_told_the_flag_of_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeServer(flavor="vllm", metrics=BAD, answer=story) as server:
        first, second = told_by(caplog, server, STORY)
    assert "--enable-prefix-caching and --block-size 16 (32 on a CPU)" in first
    assert "--max-num-seqs" in second


def test_answers_of_one_token_say_nothing_of_the_calls_computed_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeServer(flavor="vllm", metrics=BAD) as server:
        assert len(told_by(caplog, server, "LLM_FILTER('Is it sad?', x)")) == 1


def test_how_much_a_server_computes_is_told_only_where_each_look_agrees() -> None:
    queue = read_queue(BAD)
    assert queue == Queue(2, 58, 0.0020618556701030855)
    assert queue_advice([queue, Queue(1, 58, 0.0), queue]) is not None, "one has just ended"
    for other in (Queue(4, 58, 0.0), Queue(2, 1, 0.0)):
        assert queue_advice([queue, other, queue]) is None
    assert queue_advice([Queue(64, 100, 0.5)] * 3) is None
    full = queue_advice([Queue(3, 58, 0.97)] * 3)
    assert full is not None
    assert "--max-model-len" in full
    assert read_queue("vllm:num_requests_running 1.0\nvllm:num_requests_waiting 4.0") == Queue(
        1, 4, 0.0
    )
    assert read_queue("nothing") is None


def test_rows_longer_than_the_window_are_told_the_flag_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeServer(flavor="vllm", metrics=GOOD, context_window=100) as server:
        [said] = told_by(caplog, server, "LLM_FILTER('Is it sad?', repeat(x, 200))", rows=4)
    assert "takes 100 tokens of prompt and answer" in said
    assert "--max-model-len" in said


@pytest.mark.parametrize("cached", [0, 32])
def test_a_server_that_reuses_nothing_behind_closed_metrics_is_told_what_might_help(
    cached: int, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(_: object) -> Reply:
        return Reply("a duck", Usage(100, 2, cached))

    with FakeServer(flavor="vllm", metrics=None, answer=answer) as server:
        told = told_by(caplog, server, STORY)
    assert len(told) == (cached == 0)
    assert all("--enable-prefix-caching" in line for line in told)


def test_a_good_server_is_not_advised_and_the_table_of_models_shows_its_cache() -> None:
    assert cache_advice(read_prefix_cache(GOOD)) is None
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
