"""What was odd about a session's statements and what their model calls cost, for its notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quackllm.engine.events import StatementStarted

if TYPE_CHECKING:
    from quackllm.engine.engine import Engine
    from quackllm.engine.events import Event


class StatementNumbers:
    """Tells which of the engine's statements a thread has begun; a listener of its events."""

    def __init__(self) -> None:
        self._of_thread: dict[int, list[int]] = {}

    def __call__(self, event: Event) -> None:
        """Take one event, in the thread that began the statement."""
        if isinstance(event, StatementStarted):
            begun = self._of_thread.get(threading.get_ident())
            if begun is not None:
                begun.append(event.statement)

    @contextmanager
    def collected(self) -> Iterator[list[int]]:
        """Collect the numbers of the statements that this thread begins."""
        thread = threading.get_ident()
        begun = self._of_thread[thread] = []
        try:
            yield begun
        finally:
            del self._of_thread[thread]


class Watch:
    """Collects one session's notices."""

    def __init__(self, engine: Engine, numbers: StatementNumbers) -> None:
        self._engine = engine
        self._numbers = numbers
        self._notices: list[tuple[str, str]] = []

    @contextmanager
    def statement(self, sql: str) -> Iterator[None]:
        """Note the cost of the calls that are made inside, also when it fails."""
        with self._numbers.collected() as begun:
            try:
                yield
            finally:
                if begun:
                    self._note(set(begun))

    def _note(self, begun: set[int]) -> None:
        for stats in [one for one in self._engine.history if one.number in begun]:
            self._notices.extend((doubt, "WARNING") for doubt in stats.doubts)
            if stats.tuples:
                severity = "WARNING" if stats.failures else "NOTICE"
                self._notices.append((stats.summary(), severity))

    def notices(self) -> list[tuple[str, str]]:
        """Return and forget the notices: (text, severity)."""
        notices, self._notices = self._notices, []
        return notices
