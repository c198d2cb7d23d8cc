"""The one stream that progress bars, EXPLAIN ANALYZE and metrics are fed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from quackllm.engine.providers.base import Usage


@dataclass(frozen=True)
class StatementStarted:
    """A statement with LLM functions begins to run."""

    statement: int
    sql: str


@dataclass(frozen=True)
class StageStarted:
    """A model stage knows its distinct argument tuples and begins to call.

    tuples counts distinct argument tuples that have at least one value; cached of
    them are answered without a call.
    """

    statement: int
    stage: int
    function: str
    model: str
    tuples: int
    cached: int


@dataclass(frozen=True)
class CallFinished:
    """One row's call came back, with an answer or without one.

    failure: the cause when it gave no answer. calls: replies asked of the model, 2 when
    the first could not be read. retries: further tries because the server failed.
    """

    statement: int
    stage: int
    usage: Usage
    seconds: float
    failure: str | None = None
    calls: int = 1
    retries: int = 0


@dataclass(frozen=True)
class AnswersFound:
    """Tuples that a stage was to call for were answered meanwhile by other statements."""

    statement: int
    stage: int
    count: int


@dataclass(frozen=True)
class StageFinished:
    """A model stage has an answer or a failure for each tuple it was to answer."""

    statement: int
    stage: int
    seconds: float


@dataclass(frozen=True)
class StatementFinished:
    """A statement ended; error is the class name of what stopped it, None if nothing did."""

    statement: int
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Notice:
    """One line for the person: which model is used, what was found odd."""

    text: str


Event = (
    StatementStarted
    | StageStarted
    | CallFinished
    | AnswersFound
    | StageFinished
    | StatementFinished
    | Notice
)
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class EventStream:
    """Calls every listener with every event, in the order they were added.

    Listeners run in the thread that emits; they must be quick and must not raise.
    """

    listeners: list[Listener] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Hand the event to each listener."""
        for listener in self.listeners:
            listener(event)
