"""The progress bar: drawn for those who look, and only for stages that last."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from quackllm.engine.events import (
    CallFinished,
    StageFinished,
    StageStarted,
    StatementFinished,
    StatementStarted,
)
from quackllm.engine.progress import ProgressBar, StageCounters
from quackllm.engine.providers.base import Usage

ANSWER = CallFinished(1, 1, Usage(200, 2), 0.1)
FAILED = CallFinished(1, 1, Usage(200, 0), 0.1, "timeout")
STAGE = StageStarted(1, 1, "llm_filter", "m", tuples=300, cached=40)
DELAY = 0.02


class Screen:
    """A console that keeps what was drawn."""

    def __init__(self, *, terminal: bool = True) -> None:
        self._file = io.StringIO()
        self.console = Console(file=self._file, force_terminal=terminal, width=110)

    @property
    def raw(self) -> str:
        return self._file.getvalue()

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    def wait_for(self, wanted: str) -> None:
        deadline = time.monotonic() + 5
        while wanted not in self.text:
            assert time.monotonic() < deadline, f"{wanted!r} not drawn in 5 s:\n{self.text}"
            time.sleep(0.01)


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def bar(screen: Screen) -> Iterator[ProgressBar]:
    with ProgressBar(screen.console, delay=DELAY) as made:
        yield made


def test_shows_function_rows_rates_and_failures(bar: ProgressBar, screen: Screen) -> None:
    bar(StatementStarted(1, "SELECT 1"))
    bar(STAGE)
    screen.wait_for("waiting for the first answer")
    for event in [ANSWER, ANSWER, FAILED]:
        bar(event)
    screen.wait_for("43/300 rows")
    screen.wait_for("1 failed")
    screen.wait_for("calls/s")
    assert "LLM_FILTER" in screen.text
    assert "tokens/s" in screen.text


def test_the_first_answer_need_not_arrive_before_the_bar_does(
    bar: ProgressBar, screen: Screen
) -> None:
    bar(STAGE)
    screen.wait_for("40/300 rows")


def test_failures_are_red(bar: ProgressBar, screen: Screen) -> None:
    bar(STAGE)
    bar(FAILED)
    screen.wait_for("1 failed")
    assert re.search(r"\x1b\[1;31m1 failed", screen.raw)


def test_a_stage_that_ends_sooner_than_the_delay_draws_nothing(screen: Screen) -> None:
    with ProgressBar(screen.console, delay=0.1) as bar:
        bar(STAGE)
        bar(ANSWER)
        bar(StageFinished(1, 1, 0.01))
        bar(StatementFinished(1, 0.01))
        time.sleep(0.2)
    assert screen.raw == ""


def test_nothing_is_drawn_and_nothing_kept_where_nobody_looks() -> None:
    screen = Screen(terminal=False)
    with ProgressBar(screen.console, delay=0.0) as bar:
        bar(STAGE)
        bar(ANSWER)
        time.sleep(0.05)
        assert bar.snapshot() == {}
    assert screen.raw == ""


def test_a_notebook_without_widgets_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich would print a warning ten times a second instead of drawing."""
    bar = ProgressBar(Console(force_jupyter=True))
    monkeypatch.setattr("quackllm.engine.progress.find_spec", lambda name: None)
    assert not bar.visible
    monkeypatch.setattr("quackllm.engine.progress.find_spec", lambda name: object())
    assert bar.visible


def test_the_end_of_the_statement_wipes_the_display(bar: ProgressBar, screen: Screen) -> None:
    bar(STAGE)
    screen.wait_for("rows")
    bar(StageFinished(1, 1, 0.1))
    bar(StatementFinished(1, 0.1))
    drawn = screen.raw
    assert "\x1b[2K" in drawn[drawn.rindex("rows") :], "the line is erased after it was drawn"
    time.sleep(0.25)
    assert screen.raw == drawn


def test_an_error_that_ends_a_statement_ends_the_display(bar: ProgressBar, screen: Screen) -> None:
    bar(STAGE)
    screen.wait_for("rows")
    bar(StatementFinished(1, 0.1, "ServerUnreachable"))
    assert bar.snapshot() == {}
    drawn = screen.raw
    time.sleep(0.25)
    assert screen.raw == drawn


def test_rounds_of_one_stage_are_one_line(bar: ProgressBar) -> None:
    bar(StageStarted(1, 1, "llm_filter", "m", tuples=10, cached=2))
    for _ in range(8):
        bar(ANSWER)
    bar(StageFinished(1, 1, 0.5))
    bar(StageStarted(1, 1, "llm_filter", "m", tuples=20, cached=0))
    bar(FAILED)
    [counters] = bar.snapshot().values()
    assert (counters.tuples, counters.done, counters.failures) == (30, 11, 1)
    assert counters.seconds == 0.5


def test_a_round_that_stopped_early_counts_as_whole(bar: ProgressBar) -> None:
    bar(STAGE)
    bar(ANSWER)
    bar(StageFinished(1, 1, 0.5))
    [counters] = bar.snapshot().values()
    assert counters.done == counters.tuples == 41


def test_statements_that_run_at_once_do_not_end_one_another(bar: ProgressBar) -> None:
    bar(STAGE)
    bar(StageStarted(2, 1, "llm_classify", "m", tuples=5, cached=0))
    bar(StatementFinished(2, 0.1))
    assert list(bar.snapshot()) == [(1, 1)]


def test_rates_are_of_the_time_that_the_stage_ran() -> None:
    counters = StageCounters("llm_filter", tuples=100, started=10.0, seconds=1.0, calls=20)
    counters.tokens = 4_000
    assert counters.rates(now=11.0) == "10 calls/s, 2,000 tokens/s"
    assert counters.rates(now=15.0) == "3.3 calls/s, 667 tokens/s"


def test_events_from_many_threads_are_all_counted(bar: ProgressBar) -> None:
    bar(STAGE)

    def many() -> None:
        for _ in range(500):
            bar(ANSWER)

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [counters] = bar.snapshot().values()
    assert counters.calls == 4_000
    assert counters.tokens == 4_000 * 202


def test_an_event_costs_microseconds(bar: ProgressBar) -> None:
    """Measured at 1 to 2 µs; the bound leaves room for a busy machine."""
    bar(StageStarted(1, 1, "llm_filter", "m", tuples=10**6, cached=0))
    started = time.perf_counter()
    for _ in range(20_000):
        bar(ANSWER)
    assert (time.perf_counter() - started) / 20_000 < 50e-6


def test_stop_may_be_called_at_any_time_and_again(bar: ProgressBar, screen: Screen) -> None:
    bar.stop()
    bar(STAGE)
    bar.stop()
    bar(STAGE)
    screen.wait_for("rows")
    bar.stop()
    bar.stop()
    bar(ANSWER)
    assert bar.snapshot() == {}
