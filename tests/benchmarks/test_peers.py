"""The comparison with other systems counts and judges alike for all of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.peers import judge
from benchmarks.peers.exchange import Answered, Ask, Done, Job, finish, job_of, line_of, result_of
from benchmarks.peers.judge import Truth
from benchmarks.peers.meter import Counted, counted_in
from benchmarks.peers.page import Result, better, summary, tables
from benchmarks.peers.systems import Process, System, SystemFailed

TABLE = pa.table(
    {"id": ["a", "b", "c", "d"], "good": [True, True, False, False], "score": [4.0, 3.0, 2.0, 1.0]}
)


def job(then: str, limit: int | None = None, group: str | None = None) -> Job:
    rows = [{"id": key, "of": "x" if key in "ab" else "y"} for key in "abcd"]
    ask = Ask("filter", "Good?", ("of",))
    return Job("t", rows, (ask,), then, limit, group, "SELECT 1", "http://here", "model", 12)


def test_a_job_and_its_result_survive_the_line_they_are_sent_as() -> None:
    assert job_of(line_of(job("ids"))) == job("ids")
    done = Done(1.5, [["a", 1]], 2)
    assert result_of(line_of(done)) == done


@pytest.mark.parametrize(
    ("then", "limit", "value"),
    [
        ("ids", None, ["a", "b", "c"]),
        ("ids", 2, ["a", "b"]),
        ("count", None, 3),
        ("ratio", None, 0.75),
        ("counts", None, [("POSITIVE", 3), ("NEGATIVE", 1)]),
    ],
)
def test_what_sql_does_after_a_filter_is_done_for_every_system(
    then: str, limit: int | None, value: object
) -> None:
    assert finish(job(then, limit), Answered(passed=["a", "b", "c"])) == value


def test_means_are_taken_of_the_numbers_in_answers() -> None:
    said = [("a", "Score: 4/5"), ("b", 2), ("c", "none"), ("d", "1.")]
    assert finish(job("means", group="of"), Answered(answers=said)) == [("x", 3.0), ("y", 1.0)]


@pytest.mark.parametrize(
    ("quality", "value", "right"),
    [
        (partial(judge.decided, condition="good"), ["a", "c"], 0.5),
        (partial(judge.precise, condition="good"), ["a", "c", "b"], 2 / 3),
        (partial(judge.precise, condition="good"), [], 0.0),
        (partial(judge.counted, condition="good"), 3, 0.5),
        (partial(judge.counted, condition="good"), [("NEGATIVE", 2), ("POSITIVE", 2)], 1.0),
        (partial(judge.counted, condition="good", share=True), 0.25, 0.5),
        (
            partial(judge.ranked, by="id", truth_sql="avg(score)"),
            [("a", 9), ("b", 5), ("d", 1)],
            1.0,
        ),
        (partial(judge.ranked, by="id", truth_sql="avg(score)"), [("a", 1), ("b", 1)], None),
    ],
)
def test_quality(quality: judge.Quality, value: object, right: float | None) -> None:
    found = quality(Truth(TABLE, value))
    assert found == (right if right is None else pytest.approx(right))


def test_counters_of_the_server_are_added_over_their_labels() -> None:
    page = (
        'vllm:request_success_total{finished_reason="stop"} 7.0\n'
        'vllm:request_success_total{finished_reason="length"} 2.0\n'
        "vllm:prompt_tokens_total 100.0\nvllm:prefix_cache_hits_total 64.0\n"
        "vllm:generation_tokens_total 9.0\nvllm:generation_tokens_created 1e9\n"
    )
    assert counted_in(page) - Counted(1, 0, 0, 0) == Counted(8, 100, 64, 9)


def test_the_page_says_where_a_peer_was_better() -> None:
    counted = Counted(4, 100, 50, 4)
    ours = Result("t", "quackllm", 4, Done(1.0, []), counted, 0.5)
    slower = Result("t", "lotus", 4, Done(3.0, []), counted, 0.75)
    ended = Result("t", "blendsql", 4, Done(60.0, error="not done after 60 s"), counted, None)
    failed = Result("t", "palimpzest", 4, Done(0.1, error="KeyError: 'x'"), counted, None)
    results = [ours, slower, ended, failed]
    assert better(results) == ["- lotus, t: quality 0.75 beside 0.50."]
    assert summary(results)[2:] == [
        "| lotus | 1 | 3.0 | 1 | 0 | 0 | 0 | 1 |",
        "| blendsql | 1 | 60.0 | 1 | 0 | 0 | 0 | 0 |",
    ]
    assert "| t | 4 | 1.0 | 3.0 | > 60 | failed |" in tables(results)


def test_a_system_that_is_not_installed_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    environment = tmp_path / "blendsql" / "bin"
    environment.mkdir(parents=True)
    (environment / "python").write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    (environment / "python").chmod(0o755)
    with pytest.raises(SystemFailed, match=r"blendsql did not start, see .*blendsql\.log"):
        Process(System("blendsql", "blendsql"), tmp_path, "u", "m", tmp_path / "blendsql.log")
