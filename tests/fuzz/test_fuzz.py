"""Promise 2 on random statements: the naive answer, for at most as many calls."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from random import Random

import pytest

from tests.fuzz.campaign import Found, shrink
from tests.fuzz.cases import Case
from tests.fuzz.judge import judge
from tests.fuzz.regressions import REGRESSIONS
from tests.fuzz.runner import Runner
from tests.fuzz.statements import random_case

SEED = 20261120
STATEMENTS = 130
"""What fits into `make test`; `make fuzz` takes its time."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    logging.getLogger("quackllm").setLevel(logging.CRITICAL)
    opened = Runner()
    yield opened
    opened.close()
    logging.getLogger("quackllm").setLevel(logging.NOTSET)


@pytest.mark.parametrize("case", REGRESSIONS, ids=lambda case: case.sql[:60])
def test_what_was_once_wrong_stays_right(runner: Runner, case: Case) -> None:
    verdict = judge(runner, case, explain=True)
    assert verdict.outcome == "equal", f"{verdict.detail}\n{case}"


def test_random_statements_equal_the_naive_plan(runner: Runner) -> None:
    """The same cases in every run; a failure is made small.

    None may ask more than one call per row would. DuckDB's own optimizer and remembered
    answers together ask less for some; the long run lists these.
    """
    random = Random(SEED)
    planned = per_row = 0
    for _ in range(STATEMENTS):
        case, choices = random_case(random)
        verdict = judge(runner, case)
        if verdict.failed:
            small = shrink(Found(case, verdict.detail, choices), verdict.signature)
            pytest.fail(f"{verdict.outcome}: {small.detail}\n{small.case}")
        if verdict.planned and verdict.naive and not verdict.naive.error:
            planned += verdict.planned.calls
            per_row += verdict.naive.rows_evaluated
    assert 0 < planned <= per_row
