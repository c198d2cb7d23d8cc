"""Calls that DuckDB makes chunk by chunk, answered as one statement would answer them.

DuckDB hands a function 2,048 rows at a time, from several threads. A lane takes the chunks of
one call: those that wait while others are answered go together as one round.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from quackllm.engine.engine import Engine
from quackllm.engine.settings import Settings
from quackllm.errors import QuackLLMError
from quackllm.udfs.base import Call

LINGER_SECONDS = 0.5
"""A lane ends when no chunk has come for so long: nobody says when the statement has ended."""


@dataclass
class _Round:
    """Rows that wait for answers, and then have them."""

    fields: Sequence[pa.Array]
    rows: int
    answers: pa.Array | None = None
    error: duckdb.Error | None = None

    @property
    def ended(self) -> bool:
        return self.answers is not None or self.error is not None


class Lane:
    """The chunks of one call, accounted for as one statement of the engine."""

    def __init__(self, engine: Engine, settings: Settings, call: Call) -> None:
        self.settings = settings
        self._engine = engine
        self._call = call
        self._run = engine.begin(settings, f"{call.function.upper()}(...) in a DuckDB shell")
        self._started = time.monotonic()
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Round] = []
        self._busy = 0
        self._last_used = self._started
        self._over = False

    def enter(self) -> bool:
        """Reserve the lane for a chunk; False when it has ended."""
        with self._guard:
            if self._over:
                return False
            self._busy += 1
            return True

    def answer(self, fields: Sequence[pa.Array], rows: int) -> pa.Array:
        """Answer a chunk, after `enter`. Raises what stops a statement, and ends the lane."""
        mine = _Round(fields, rows)
        with self._guard:
            self._waiting.append(mine)
        try:
            with self._turn:
                if not mine.ended:
                    self._answer_waiting()
        finally:
            with self._guard:
                self._busy -= 1
                self._last_used = time.monotonic()
        if mine.error is not None:
            raise mine.error
        return mine.answers

    def interrupt(self) -> None:
        """End the calls in flight; the lane is of no more use."""
        with self._guard:
            self._over = True
        self._run.interrupt()

    def end(self, *, only_when_idle: bool) -> bool:
        """End the lane; True when it has ended, now or before."""
        with self._guard:
            idle = self._busy == 0
            if only_when_idle and not self._over:
                idle = idle and time.monotonic() - self._last_used > LINGER_SECONDS
            if not idle:
                return False
            self._over = True
        self._engine.end(self._run, time.monotonic() - self._started)
        return True

    def _answer_waiting(self) -> None:
        with self._guard:
            rounds, self._waiting = self._waiting, []
        columns = range(len(self._call.fields))
        fields = [pa.concat_arrays([each.fields[i] for each in rounds]) for i in columns]
        failure: duckdb.Error = QuackLLMError("the calls of another chunk failed")
        try:
            answers = self._run.answer(self._call, fields, sum(each.rows for each in rounds))
        except duckdb.Error as error:
            failure = error
        else:
            start = 0
            for each in rounds:
                each.answers = answers.slice(start, each.rows)
                start += each.rows
        finally:  # whoever waits is told, whatever has happened
            for each in rounds:
                if each.answers is None:
                    each.error = failure
                    self._over = True


@dataclass
class Lanes:
    """The lanes of one shell."""

    engine: Engine
    settings: Callable[[], Settings]
    _lanes: dict[str, Lane] = field(default_factory=dict)
    _ending: list[Lane] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, call: Call) -> Lane:
        """Return the lane of a call, reserved for one chunk."""
        settings = self.settings()
        with self._guard:
            lane = self._lanes.get(call.spec)
            if lane is None or lane.settings is not settings or not lane.enter():
                if lane is not None:
                    self._ending.append(lane)
                lane = Lane(self.engine, settings, call)
                lane.enter()
                self._lanes[call.spec] = lane
            return lane

    def tidy(self) -> None:
        """End lanes that nobody uses any more."""
        with self._guard:
            idle = [spec for spec, lane in self._lanes.items() if lane.end(only_when_idle=True)]
            for spec in idle:
                del self._lanes[spec]
            self._ending = [lane for lane in self._ending if not lane.end(only_when_idle=True)]

    def close(self) -> None:
        """End all calls."""
        with self._guard:
            lanes = [*self._lanes.values(), *self._ending]
            self._lanes, self._ending = {}, []
        for lane in lanes:
            lane.interrupt()
            lane.end(only_when_idle=False)
