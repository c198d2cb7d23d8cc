"""One running statement: its settings, the answers it has, and what it has cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from quackllm.engine.batch import Asker, Batch, Known
from quackllm.engine.budget import Budget
from quackllm.engine.cache import Question, question_of
from quackllm.engine.events import StageFinished, StageStarted
from quackllm.engine.history import StageStats, StatementStats
from quackllm.engine.joint import asked_call, distinct_tuples
from quackllm.engine.loop import Interruption
from quackllm.engine.providers.base import Provider
from quackllm.engine.reduction import Step, reduce_lists, room, step_call
from quackllm.engine.settings import Settings
from quackllm.errors import BudgetExceeded, CallError
from quackllm.udfs.base import (
    ALL,
    NOTHING,
    Answered,
    Ask,
    Call,
    CallOf,
    Choice,
    Embedding,
    Inquiry,
    Reduction,
    Wanted,
)

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


def _key_of_nulls(call: Call) -> str | None:
    """Return the key of a row whose fields are all NULL; None where a call has no fields."""
    return SEPARATOR.join([NOTHING] * len(call.fields)) if call.fields else None


def _of_rows(
    rows: Sequence[Sequence[str]],
    members: Sequence[tuple[str, ...]],
    solved: Sequence[Answered],
) -> list[Answered]:
    """Return the answer of each row, given those of the distinct tuples that have one."""
    known = dict(zip(members, solved, strict=True))
    return [known.get(tuple(row)) for row in rows]


class Run:
    """Answers the model stages of one statement; used from DuckDB's threads too.

    reads_stored: whether the statement names views or macros that call a model.
    """

    def __init__(
        self, engine: Engine, settings: Settings, stats: StatementStats, budget: Budget
    ) -> None:
        self.id = str(stats.number)
        self.stats = stats
        self.budget = budget
        self.reads_stored = False
        self._engine = engine
        self._settings = settings
        self._interruption = Interruption()
        self.asker = Asker(engine, settings, budget, stats, self._interruption)
        self._known: dict[Question, Known] = {}
        self._numbers: dict[str, int] = {}
        self._stages_before = 0
        self._lock = RLock()

    def interrupt(self) -> None:
        """End the calls in flight, from any thread; `answer` then raises `StatementCancelled`."""
        self._interruption.ask()

    @property
    def settings(self) -> Settings:
        """The settings that the statement runs with."""
        return self._settings

    def shown(self, fields: Sequence[pa.Array]) -> Sequence[pa.Array]:
        """Return what a model is shown of rendered fields: all but what is redacted."""
        return self._engine.shown(fields)

    def notify(self, text: str) -> None:
        """Tell the person one line."""
        self._engine.notify(text)

    def provider(self, call: Call) -> Provider:
        """Return the provider of a call; opening it ends with the statement.

        Raises a `ProviderError`, `StatementCancelled`, and `BudgetExceeded` when the time is
        over before the server has said who it is.
        """
        seconds = self.budget.seconds_left()
        try:
            return self._engine.provider(
                self._settings, call, self._interruption, seconds, user=self.id
            )
        except TimeoutError:
            limit = self.budget.time_limit()
            if limit is None:
                raise
        raise BudgetExceeded(
            f"{limit} is reached before the model of {call.function.upper()} could be opened"
        )

    def bound(
        self,
        function: str,
        constants: Mapping[str, Any],
        options: Mapping[str, Any],
        fields: Sequence[str],
    ) -> Call:
        """Bind a call that the engine makes itself, as `Functions.bind` does.

        How many numbers an embedding has is found out as for a call in SQL, which opens its
        provider. Raises `BindError` and what `Engine.dimensions` does.
        """
        call = self._engine.functions.bind(function, constants, options, fields)
        if call.declaration.answer != Embedding():
            return call
        dimensions = self._engine.dimensions(self._settings, call)
        given = {**options, "dimensions": dimensions}
        return self._engine.functions.bind(function, constants, given, fields)

    def stage(self, call: Call, provider: Provider) -> StageStats:
        """Return the running totals of a call, begun at its first use."""
        stages = self.stats.stages
        if call.spec not in stages:
            taken = (*self._numbers.values(), *(each.number for each in stages.values()))
            number = self._numbers.get(call.spec, max(taken, default=0) + 1)
            stages[call.spec] = StageStats(
                number,
                call.function,
                provider.model,
                provider.endpoint,
                price=self._engine.price(self._settings, call),
            )
        return stages[call.spec]

    def made_for(self, call: Call, made: Call) -> None:
        """Note that calls of a stage of their own were made for a planned one to be answered."""
        helper = self.stats.stages.get(made.spec)
        if helper is not None:  # not where there was nothing to ask
            helper.helps = self._numbers.get(call.spec)

    def number_stages(self, numbers: Mapping[str, int]) -> None:
        """Give calls, by spec, the numbers that their stages have in the plan."""
        given = {spec: number + self._stages_before for spec, number in numbers.items()}
        self._numbers.update(given)
        for spec, stats in self.stats.stages.items():
            stats.number = given.get(spec, stats.number)

    def begin_part(self) -> int:
        """Begin another plan of the statement: its stages are numbered behind those so far.

        Returns the number of stages so far.
        """
        self._stages_before = len(self.stats.stages)
        return self._stages_before

    def answer(
        self, call: Call, fields: Sequence[pa.Array], rows: int, wanted: Wanted = ALL
    ) -> pa.Array:
        """Answer a call for rows of rendered fields: a joint call for all of its rows at once.

        fields: one string array of length `rows` per field of the call, values as JSON
            text, 'null' for NULL. wanted: of a joint call, which answers are read.
        Returns a string array (rows,) of canonical texts; NULL for a row whose fields
        are all null, for a NULL that the model gave, and for a failed call.

        A failed call has the call's default instead, if it has one.

        Raises what stops the statement: a `ProviderError`, `BudgetExceeded`,
        `TooManyFailures`, and the first `CallError` when errors are to stop it.
        """
        with self._lock:
            declaration = call.declaration
            if declaration.is_one_call:
                answers = self._answered(call, fields, rows)
            elif declaration.reduction is not None:
                answers = self._reduced(call, declaration.reduction, fields[0].to_pylist())
            else:
                tuples = list(zip(*(field.to_pylist() for field in fields), strict=True))
                members = distinct_tuples(tuples)
                if declaration.rounds is None:
                    return self.answer_jointly(call, tuples, members, wanted)
                solved = declaration.rounds.solve(members, self.asking(call))
                answers = _of_rows(tuples, members, solved)
            return pa.array(self._with_failures(call, answers), pa.string())

    def answer_jointly(
        self,
        call: Call,
        rows: Sequence[Sequence[str]],
        members: Sequence[tuple[str, ...]],
        wanted: Wanted = ALL,
    ) -> pa.Array:
        """Answer a joint call for some of the rows that it is about.

        rows: of each row the rendered fields; members: `distinct_tuples` of all rows.
        Returns and raises as `answer` does.
        """
        with self._lock:
            joint = call.declaration.joint
            assert joint is not None
            solved = joint.solve(members, self.asking(call), wanted)
            answers = _of_rows(rows, members, solved)
            return pa.array(self._with_failures(call, answers), pa.string())

    def asking(self, call: Call, *, redacted: bool = False) -> Ask:
        """Return what makes the calls of one round for a call that is answered by rounds.

        redacted: whether the tuples hold only what a model may see.
        """

        def ask(inquiry: Inquiry | CallOf, tuples: Sequence[tuple[str, ...]]) -> list[Answered]:
            columns = list(zip(*tuples, strict=True)) or [()] * len(inquiry.fields)
            fields: Sequence[pa.Array] = [pa.array(column, pa.string()) for column in columns]
            fields = fields if redacted else self._engine.shown(fields)
            with self._lock:
                asked = asked_call(call, inquiry, self.bound)
                answers = self._shown_answered(asked, fields, len(tuples))
                if asked.spec != call.spec:
                    self.made_for(call, asked)
                return answers

        return ask

    def _answered(self, call: Call, fields: Sequence[pa.Array], rows: int) -> list[Answered]:
        """Answer a call for each row; one whose call failed has the failure instead."""
        return self._shown_answered(call, self._engine.shown(fields), rows)

    def _shown_answered(self, call: Call, fields: Sequence[pa.Array], rows: int) -> list[Answered]:
        """Answer a call for rows of which the fields are what a model may see."""
        provider = self.provider(call)
        question = question_of(call, provider)
        known = self._known.setdefault(question, Known())
        keys = answer_keys(call, fields, rows)
        self._ask_missing(call, provider, question, known, keys, fields)
        empty = _key_of_nulls(call)
        answers: list[Answered] = [None if key == empty else known.answers.get(key) for key in keys]
        if not known.failed:
            return answers
        return [known.failed.get(key, answer) for key, answer in zip(keys, answers, strict=True)]

    def _reduced(self, call: Call, reduction: Reduction, lists: list[str]) -> list[Answered]:
        """Answer a call about lists, in parts where they are long."""
        window = self.provider(call).capabilities.context_window

        def ask(step: Step, texts: Sequence[str]) -> list[Answered]:
            return self._answered(step_call(call, step), [pa.array(texts, pa.string())], len(texts))

        return reduce_lists(lists, room(call, reduction, window), ask)

    def remembered(self, call: Call, fields: Sequence[pa.Array], rows: int) -> list[bool]:
        """Tell of each row whether its answer is there already."""
        with self._lock:
            if not call.declaration.is_one_call:
                return [False] * rows  # of the calls that it makes, some may be
            provider = self.provider(call)
            question = question_of(call, provider)
            keys = answer_keys(call, fields, rows)
            known = self._known.get(question, Known()).answers
            cached = self._engine.cache_for(call, self._settings).get(question, keys)
            return [key in known or key in cached for key in keys]

    def _with_failures(self, call: Call, answers: list[Answered]) -> list[str | None]:
        """Put the call's default in the place of failures; an equal call may have made them.

        Raises the first failure when errors are to stop the statement.
        """
        settled = [call.default if isinstance(each, CallError) else each for each in answers]
        if self.asker.on_error(call) == "error":
            for each in answers:
                if isinstance(each, CallError):
                    raise each
        return settled

    def _ask_missing(
        self,
        call: Call,
        provider: Provider,
        question: Question,
        known: Known,
        keys: list[str],
        fields: Sequence[pa.Array],
    ) -> None:
        """Ask once for each key that has no answer yet, unless all fields of its rows are NULL."""
        empty = _key_of_nulls(call)
        first_row: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key not in known.answers and key != empty:
                first_row.setdefault(key, row)
        if not first_row:
            return
        stats = self.stage(call, provider)
        cache = self._engine.cache_for(call, self._settings)
        remembered = cache.get(question, list(first_row))
        known.answers.update(remembered)
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
                batch = Batch(self.asker, stats, call, question, known, cache)
                batch.ask(provider, wanted, fields)
            if isinstance(call.declaration.answer, Choice):
                answers = [known.answers.get(key) for key in first_row]
                stats.answers.update(answer for answer in answers if answer is not None)
        finally:
            seconds = time.monotonic() - started
            stats.seconds += seconds
            self._engine.events.emit(StageFinished(self.stats.number, stats.number, seconds))
