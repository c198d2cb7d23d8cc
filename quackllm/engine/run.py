"""One running statement: its settings, the answers it has, and what it has cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from quackllm.engine.cache import Question
from quackllm.engine.dispatch import Outcome, dispatch
from quackllm.engine.events import CallFinished, StageFinished, StageStarted
from quackllm.engine.history import StageStats, StatementStats, failure_of
from quackllm.engine.loop import Interruption
from quackllm.engine.providers.base import Provider, Request, Usage
from quackllm.engine.settings import Settings
from quackllm.errors import CallError
from quackllm.udfs.base import Call, Choice
from quackllm.udfs.prompt import neutral_fields, render_fields

if TYPE_CHECKING:
    from quackllm.engine.engine import Engine

SEPARATOR = "\x1f"
"""Joins rendered fields to a key, as `quackllm.optimizer.sql.key` does in SQL."""


def answer_keys(call: Call, fields: Sequence[pa.Array], rows: int) -> list[str]:
    """Return the key of each row's answer: its rendered fields in the order of their names."""
    if not fields:
        return [""] * rows
    ordered = sorted(range(len(fields)), key=lambda position: call.fields[position])
    joined = pc.binary_join_element_wise(*(fields[i] for i in ordered), SEPARATOR)
    keys: list[str] = joined.to_pylist()
    return keys


class Run:
    """Answers the model stages of one statement; used from DuckDB's threads too."""

    def __init__(self, engine: Engine, settings: Settings, stats: StatementStats) -> None:
        self.id = str(stats.number)
        self.stats = stats
        self._engine = engine
        self._settings = settings
        self._answers: dict[Question, dict[str, str | None]] = {}
        self._numbers: dict[str, int] = {}
        self._lock = RLock()
        self._interruption = Interruption()

    def interrupt(self) -> None:
        """End the calls in flight, from any thread; `answer` then raises `StatementCancelled`."""
        self._interruption.ask()

    def stage(self, call: Call, provider: Provider) -> StageStats:
        """Return the running totals of a call, begun at its first use."""
        stages = self.stats.stages
        if call.spec not in stages:
            number = self._numbers.get(call.spec, len(stages) + 1)
            stages[call.spec] = StageStats(
                number,
                call.function,
                provider.model,
                provider.endpoint,
                price=self._engine.price(self._settings, call.model),
            )
        return stages[call.spec]

    def number_stages(self, numbers: Mapping[str, int]) -> None:
        """Give calls, by spec, the numbers that their stages have in the plan."""
        self._numbers.update(numbers)
        for spec, stats in self.stats.stages.items():
            stats.number = numbers.get(spec, stats.number)

    def answer(self, call: Call, fields: Sequence[pa.Array], rows: int) -> pa.Array:
        """Answer a call for rows of rendered fields.

        fields: one string array of length `rows` per field of the call, values as JSON
            text, 'null' for NULL.
        Returns a string array (rows,) of canonical texts; NULL for a row whose fields
        are all null, for a NULL that the model gave, and for a failed call.

        Raises a `ProviderError` that stops the statement, and the first `CallError`
        when errors are to stop it.
        """
        with self._lock:
            provider = self._engine.provider(self._settings, call.model)
            question = Question(call.identity, provider.endpoint, provider.model)
            known = self._answers.setdefault(question, {})
            keys = answer_keys(call, fields, rows)
            self._ask_missing(call, provider, question, known, keys, fields)
            empty = SEPARATOR.join(["null"] * len(call.fields)) if call.fields else None
            return pa.array([None if key == empty else known.get(key) for key in keys], pa.string())

    def _ask_missing(
        self,
        call: Call,
        provider: Provider,
        question: Question,
        known: dict[str, str | None],
        keys: list[str],
        fields: Sequence[pa.Array],
    ) -> None:
        empty = SEPARATOR.join(["null"] * len(call.fields)) if call.fields else None
        first_row: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key not in known and key != empty:
                first_row.setdefault(key, row)
        if not first_row:
            return
        stats = self.stage(call, provider)
        use_cache = self._settings.cache if call.cache is None else call.cache
        remembered = self._engine.cache.get(question, list(first_row)) if use_cache else {}
        known.update(remembered)
        stats.tuples += len(first_row)
        stats.cached += len(remembered)
        self._engine.events.emit(
            StageStarted(
                self.stats.number,
                stats.number,
                call.function,
                provider.model,
                len(first_row),
                len(remembered),
            )
        )
        started = time.monotonic()
        wanted = [(key, row) for key, row in first_row.items() if key not in remembered]
        try:
            if wanted:
                batch = _Batch(
                    self._engine, self._settings, self.stats.number, stats, call, self._interruption
                )
                batch.ask(provider, question, known, wanted, fields, use_cache)
            if isinstance(call.declaration.answer, Choice):
                answers = [known.get(key) for key in first_row]
                stats.answers.update(answer for answer in answers if answer is not None)
        finally:
            seconds = time.monotonic() - started
            stats.seconds += seconds
            self._engine.events.emit(StageFinished(self.stats.number, stats.number, seconds))


class _Batch:
    """One round of questions of one stage."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        statement: int,
        stats: StageStats,
        call: Call,
        interruption: Interruption,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._statement = statement
        self._stats = stats
        self._call = call
        self._interruption = interruption

    def ask(
        self,
        provider: Provider,
        question: Question,
        known: dict[str, str | None],
        wanted: list[tuple[str, int]],
        fields: Sequence[pa.Array],
        keep: bool,
    ) -> None:
        """Ask for every wanted key; `known` and the cache fill as answers arrive."""
        call, stats = self._call, self._stats
        rows = pa.array([row for _, row in wanted], pa.int64())
        columns = [column.take(rows) for column in fields]
        values = [column.to_pylist() for column in columns]
        order = self._engine.order(self._settings, call, columns, provider)
        stats.expect(order.reused, order.reused_unordered, order.total)
        neutral = (
            neutral_fields(call.fields) if isinstance(call.declaration.answer, Choice) else None
        )
        on_error = call.on_error or self._settings.on_error

        def deliver(index: int, outcome: Outcome) -> None:
            key = wanted[index][0]
            usage = outcome.reply.usage if outcome.reply else Usage()
            stats.calls += 1
            stats.add(usage)
            error = outcome.error
            if outcome.reply is not None:
                try:
                    answer = call.declaration.parse(outcome.reply.text)
                except CallError as invalid:
                    error = invalid
                else:
                    known[key] = answer
                    if keep:
                        self._engine.cache.put(question, key, answer)
            cause = error.cause if error else None
            self._engine.events.emit(
                CallFinished(self._statement, stats.number, usage, outcome.seconds, cause)
            )
            if error is not None:
                known[key] = None
                self._fail(error, render_fields(call.fields, [v[index] for v in values]))
                if on_error == "error":
                    raise error

        def requests() -> Iterator[tuple[int, Request]]:
            for position, row in enumerate(order.rows.tolist()):
                within = None if order.fields is None else order.fields[position].tolist()
                text = render_fields(call.fields, [v[row] for v in values], within)
                yield (
                    row,
                    Request(
                        instruction=call.declaration.instruction,
                        fields=text,
                        answer=call.declaration.answer,
                        temperature=call.temperature,
                        max_tokens=call.max_tokens,
                        neutral=neutral,
                    ),
                )

        concurrency = self._settings.concurrency or provider.capabilities.concurrency
        self._engine.loop.run(
            dispatch(provider, requests(), concurrency=concurrency, deliver=deliver),
            self._interruption,
        )

    def _fail(self, error: CallError, fields: str) -> None:
        self._stats.failures[error.cause] += 1
        self._engine.failures.append(
            failure_of(
                self._statement,
                self._stats.number,
                self._call.function,
                self._stats.model,
                error.cause,
                str(error),
                fields,
            )
        )
