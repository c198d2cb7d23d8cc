"""The progress bar of model stages: a listener of the event stream, drawn by rich.

Drawing is pulled: the display's own thread reads the counters ten times a second, so an
event costs a few additions under a lock, however fast calls come back. A stage that ends
within `delay` seconds is never drawn. Nothing is drawn where nobody looks: not in pipes
and files, only on terminals and in notebooks.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from quackllm.engine.events import (
    AnswersFound,
    CallFinished,
    Event,
    StageFinished,
    StageStarted,
    StatementFinished,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

DELAY_SECONDS = 0.5
REFRESHES_PER_SECOND = 10
RATE_AFTER_SECONDS = 0.2
"""Rates over less time than this are noise and are not shown."""

StageKey = tuple[int, int]
"""Statement number and stage number."""


@dataclass
class StageCounters:
    """What one model stage has done so far.

    A stage may ask in several rounds. started is when its present round began, in the
    clock's seconds, None between rounds; seconds is how long its earlier rounds took.
    """

    function: str
    tuples: int = 0
    cached: int = 0
    started: float | None = None
    seconds: float = 0.0
    calls: int = 0
    failures: int = 0
    tokens: int = 0

    @property
    def done(self) -> int:
        """Argument tuples that have an answer or a failure."""
        return min(self.cached + self.calls, self.tuples)

    def rates(self, now: float) -> str:
        """Calls and tokens per second since the stage began, as text."""
        seconds = self.seconds + (now - self.started if self.started is not None else 0.0)
        if self.calls == 0 or seconds < RATE_AFTER_SECONDS:
            return "waiting for the first answer" if self.calls == 0 else ""
        calls = self.calls / seconds
        shown = f"{calls:,.0f}" if calls >= 10 else f"{calls:.1f}"
        return f"{shown} calls/s, {self.tokens / seconds:,.0f} tokens/s"


class ProgressBar:
    """Shows the model stages that run; give it to `EventStream.listeners`.

    One instance serves a connection. It draws from the first stage that lasts longer
    than `delay` seconds until its statement ends, and then wipes what it drew. Events
    may come from any thread. `stop` takes the display away at once, for example before
    an error is printed; it may be called at any time and any number of times.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        delay: float = DELAY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draw on `console` (standard error if None), stages of more than `delay` seconds."""
        self._console = console if console is not None else Console(stderr=True)
        self._delay = delay
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[StageKey, StageCounters] = {}
        self._timer: threading.Timer | None = None
        self._display: _Display | None = None

    @property
    def visible(self) -> bool:
        """Whether anyone looks: a terminal, or a notebook that has ipywidgets to draw with."""
        if self._console.is_jupyter:
            return find_spec("ipywidgets") is not None
        return self._console.is_terminal

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, CallFinished):
            self._count(event)
        elif isinstance(event, AnswersFound):
            self._find(event)
        elif isinstance(event, StageStarted):
            self._begin(event)
        elif isinstance(event, StageFinished):
            self._end_round(event)
        elif isinstance(event, StatementFinished):
            self._end_statement(event.statement)

    def snapshot(self) -> dict[StageKey, StageCounters]:
        """Return a copy of the counters of the stages that run now."""
        with self._lock:
            return {key: replace(counters) for key, counters in self._stages.items()}

    def start(self) -> None:
        """Begin to draw now if a stage runs and somebody looks, without waiting further."""
        # rich calls `snapshot` while a display is made, so it is made outside the lock.
        display = _Display(self._console, self.snapshot, self._clock) if self.visible else None
        with self._lock:
            self._timer = None
            running = any(stage.started is not None for stage in self._stages.values())
            if display is None or self._display is not None or not running:
                return
            self._display = display
        display.start()
        with self._lock:
            unwanted = self._display is not display
        if unwanted:  # stopped from another thread since it was set
            display.stop()

    def stop(self) -> None:
        """Take the display away and forget the stages."""
        with self._lock:
            self._stages.clear()
        self._withdraw()

    def __enter__(self) -> Self:
        """Use as a context manager: `stop` is called at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing."""
        self.stop()

    def _count(self, event: CallFinished) -> None:
        with self._lock:
            counters = self._stages.get((event.statement, event.stage))
            if counters is None:
                return
            counters.calls += 1
            counters.tokens += event.usage.prompt_tokens + event.usage.completion_tokens
            counters.failures += event.failure is not None

    def _find(self, event: AnswersFound) -> None:
        with self._lock:
            counters = self._stages.get((event.statement, event.stage))
            if counters is not None:
                counters.cached += event.count

    def _begin(self, event: StageStarted) -> None:
        if not self.visible:
            return
        with self._lock:
            key = (event.statement, event.stage)
            counters = self._stages.setdefault(key, StageCounters(event.function))
            counters.tuples += event.tuples
            counters.cached += event.cached
            counters.started = self._clock()
            if self._timer is not None or self._display is not None:
                return
            timer = threading.Timer(self._delay, self.start)
            timer.daemon = True
            self._timer = timer
            timer.start()

    def _end_round(self, event: StageFinished) -> None:
        with self._lock:
            counters = self._stages.get((event.statement, event.stage))
            if counters is None:
                return
            counters.started = None
            counters.seconds += event.seconds
            # A round that was stopped early has no more calls to come.
            counters.tuples = counters.cached + counters.calls

    def _end_statement(self, statement: int) -> None:
        with self._lock:
            self._stages = {k: v for k, v in self._stages.items() if k[0] != statement}
            left = bool(self._stages)
        if not left:
            self._withdraw()

    def _withdraw(self) -> None:
        """Stop timer and display. rich takes its own lock, so ours is not held here."""
        with self._lock:
            timer, self._timer = self._timer, None
            display, self._display = self._display, None
        if timer is not None:
            timer.cancel()
        if display is not None:
            display.stop()


class _FailureColumn(ProgressColumn):
    """Failed calls in red; empty as long as there are none."""

    def render(self, task: Task) -> RenderableType:
        failures = int(task.fields["failures"])
        return Text(f"{failures:,} failed" if failures else "", style="bold red")


class _Display:
    """One line per stage; the counters are read whenever rich draws."""

    def __init__(
        self,
        console: Console,
        snapshot: Callable[[], dict[StageKey, StageCounters]],
        clock: Callable[[], float],
    ) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._tasks: dict[StageKey, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows"),
            TextColumn("{task.fields[rates]}", style="dim"),
            TimeRemainingColumn(compact=True),
            _FailureColumn(),
            console=console,
            auto_refresh=False,
        )
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )

    def start(self) -> None:
        self._live.start(refresh=True)

    def stop(self) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        now = self._clock()
        stages = self._snapshot()
        for key in set(self._tasks) - set(stages):
            self._progress.remove_task(self._tasks.pop(key))
        for key, counters in stages.items():
            if key not in self._tasks:
                self._tasks[key] = self._progress.add_task("", rates="", failures=0)
            self._progress.update(
                self._tasks[key],
                description=counters.function.upper(),
                total=counters.tuples,
                completed=counters.done,
                rates=counters.rates(now),
                failures=counters.failures,
            )
        return self._progress.get_renderable()
