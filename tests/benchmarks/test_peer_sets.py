"""Joins and top-k of quackllm and LOTUS are judged alike, and the page says where LOTUS wins."""

from __future__ import annotations

import pytest

from benchmarks.peers.exchange import Ask, Done, Job, job_of, line_of
from benchmarks.peers.meter import Counted
from benchmarks.peers.set_page import SetResult, better, table
from benchmarks.peers.set_tasks import Quality, Way, judge_first, judge_pairs, set_tasks

COUNTED = Counted(8, 100, 50, 8)


def result(system: str, way: str, done: Done, quality: Quality | None) -> SetResult:
    return SetResult("join", Way(system, way), done, COUNTED, quality)


def test_a_job_with_two_tables_survives_the_line_it_is_sent_as() -> None:
    sides = [{"id": "a", "x": "1"}], [{"id": "b", "y": "2"}]
    ask = Ask("join", "Are {x} and {y} the same?", ("x", "y"))
    job = Job("t", sides[0], (ask,), "pairs", None, None, "", "u", "m", 1, sides[1], way="sem_join")
    assert job_of(line_of(job)) == job


@pytest.mark.parametrize(
    ("found", "precision", "recall"),
    [
        ({("a", "1"), ("b", "1")}, 0.5, 0.25),
        ({("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")}, 1.0, 1.0),
        (set(), 0.0, 0.0),
    ],
)
def test_pairs_are_judged_by_those_that_belong_together(
    found: set[tuple[str, str]], precision: float, recall: float
) -> None:
    truth = {("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")}
    assert judge_pairs(found, truth) == Quality(precision, recall)


@pytest.mark.parametrize(
    ("found", "precision", "recall"),
    [
        (["b", "a"], 1.0, 1.0),
        (["c", "b"], 1.0, 1.0),  # a tie for the second place
        (["d", "b"], 0.5, 5 / 7),
        (["b"], 0.5, 4 / 7),  # less than was asked for
        ([], 0.0, 0.0),
    ],
)
def test_the_first_rows_are_judged_by_their_scores(
    found: list[str], precision: float, recall: float
) -> None:
    scores = {"a": 3.0, "b": 4.0, "c": 3.0, "d": 1.0}
    assert judge_first(found, scores, 2) == Quality(precision, recall)


def test_the_page_says_where_lotus_was_better() -> None:
    ours = result("quackllm", "exact", Done(2.0, []), Quality(0.5, 0.5))
    right = result("lotus", "sem_join", Done(3.0, []), Quality(0.8, 0.8))
    ended = result("lotus", "cascade", Done(120.0, error="not done after 120 s"), None)
    failed = result("lotus", "heap", Done(0.1, error="KeyError: 'x'"), None)
    results = [ours, right, ended, failed]
    assert better(results) == [
        "- join, `sem_join`: precision and recall together (F1) 0.80 beside 0.50."
    ]
    shown = table(results)
    assert shown[2] == "| join | quackllm | `exact` | 2.0 | 8 | 100 | 50% | 8 | 0.50 | 0.50 |"
    assert "| > 120 |" in shown[4]
    assert "| failed |" in shown[5]


def test_every_task_is_run_by_both_systems() -> None:
    for task in set_tasks():
        assert {way.system for way in task.ways} == {"quackllm", "lotus"}
        assert all(bool(way.sql) == (way.system == "quackllm") for way in task.ways)
