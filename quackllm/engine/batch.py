"""One round of questions of one stage: sent in order, answers kept as they arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from quackllm.engine.budget import Budget, Limit
from quackllm.engine.cache import AnswerCache, NoCache, Question
from quackllm.engine.cache.base import Answers
from quackllm.engine.dispatch import Outcome
from quackllm.engine.events import AnswersFound, CallFinished
from quackllm.engine.history import StageStats, StatementStats, failure_of
from quackllm.engine.loop import Interruption
from quackllm.engine.members import Members
from quackllm.engine.prefix_groups import PrefixGroup, PrefixGroups
from quackllm.engine.provider_batch import ProviderBatch, Ways
from quackllm.engine.providers.base import Provider, Request
from quackllm.engine.providers.openai_batches import TakesBatches
from quackllm.engine.providers.replicas import members_of
from quackllm.engine.row_first import RowsInFront, is_wanted
from quackllm.engine.sending_order import SendingOrder
from quackllm.engine.settings import Settings
from quackllm.engine.shared_calls import POLL_SECONDS, SharedCalls
from quackllm.engine.shares import LEAST_SPLIT, Shares, even_share
from quackllm.errors import (
    BudgetExceeded,
    CallError,
    QuackLLMError,
    RequestRefused,
    ServerUnreachable,
    TooManyFailures,
)
from quackllm.udfs.base import Call, Choice
from quackllm.udfs.prompt import neutral_fields, render_fields

if TYPE_CHECKING:
    from quackllm.engine.engine import Engine

LATEST_CALLS = 1_000
FEWEST_CALLS = 100
"""Share of failures is taken of the latest calls of a question, and never of fewer."""

Send = Callable[[Sequence[Iterator[int]]], Awaitable[None]]

RECORDED_UNDECIDED = 10_000
"""Questions that a budget left out, of which llm_errors() tells one by one; per round."""


@dataclass
class Known:
    """What a statement knows about one question, by the key of a row.

    answers: every key that is settled; None for an SQL NULL that the model gave, a call
        that failed, and one that a budget left out.
    failed: of the keys, those whose call failed.
    latest: whether each of the latest calls failed.
    """

    answers: dict[str, str | None] = field(default_factory=dict)
    failed: dict[str, CallError] = field(default_factory=dict)
    latest: deque[bool] = field(default_factory=lambda: deque(maxlen=LATEST_CALLS))


@dataclass(frozen=True)
class Asker:
    """Whose questions are asked: a statement, its settings, and what it may spend."""

    engine: Engine
    settings: Settings
    budget: Budget
    statement: StatementStats
    interruption: Interruption
    rows_in_front: RowsInFront = field(default_factory=RowsInFront)

    def on_error(self, call: Call) -> str:
        """'null' or 'error': what a failure of the call does to the statement."""
        if call.default is not None:
            return "null"
        return call.on_error or self.settings.on_error


def on_budget(call: Call, settings: Settings) -> str:
    """'error' or 'partial': what a budget that is reached does to the statement."""
    return call.on_budget or settings.on_budget


class Batch:
    """One round of questions of one stage."""

    def __init__(
        self,
        asker: Asker,
        stats: StageStats,
        call: Call,
        question: Question,
        known: Known,
        cache: AnswerCache,
    ) -> None:
        """Make a round; `known` and the cache fill as answers arrive."""
        self._asker = asker
        self._engine = asker.engine
        self._stats = stats
        self._call = call
        self._known = known
        self._shared = SharedCalls(cache, question, self._learn)
        self._question = question
        self._cache = cache
        self._keeps = not isinstance(cache, NoCache)
        self._keys: list[str] = []
        self._values: list[list[str]] = []
        self._rows_in_front: frozenset[str] = frozenset()
        self._limit: Limit | None = None
        self._groups: PrefixGroups | None = None
        self._sent = 0

    def ask(
        self, provider: Provider, wanted: Sequence[tuple[str, int]], fields: Sequence[pa.Array]
    ) -> None:
        """Ask for every wanted key, given with a row of the fields that it stands for.

        Raises what stops a statement: a `ProviderError`, `BudgetExceeded`,
        `TooManyFailures`, and the first `CallError` when errors are to stop it.
        """
        call = self._call
        self._asker.budget.check_price(provider.model, self._stats.price)
        rows = pa.array([row for _, row in wanted], pa.int64())
        columns = [column.take(rows) for column in fields]
        self._keys = [key for key, _ in wanted]
        self._values = [column.to_pylist() for column in columns]
        order = self._engine.order(
            self._asker.settings, call, columns, provider, self._asker.interruption
        )
        if is_wanted(self._asker.settings, provider.capabilities):
            order, self._rows_in_front = self._asker.rows_in_front.arrange(
                call, self._keys, order, provider.capabilities
            )
        members = members_of(provider)
        if len(members) > 1 or provider.capabilities.takes_groups:
            most = max(LEAST_SPLIT - 1, even_share(len(order.rows), len(members)))
            self._groups = PrefixGroups(call.fields, order, columns, most)
        try:
            with closing(self._shared):
                self._engine.loop.run(self._in_time(provider, order), self._asker.interruption)
        except QuackLLMError as error:
            self._engine.without_keys(error)
            if isinstance(error, ServerUnreachable):
                raise self._how_far(error) from error
            raise
        finally:
            share = self._sent / len(wanted)
            expected = (order.reused, order.reused_unordered, order.total)
            self._stats.expect(*(round(tokens * share) for tokens in expected))
        if self._limit is not None:
            self._leave_out(self._limit)

    def _requests(
        self, order: SendingOrder, shares: Shares, positions: Iterable[int]
    ) -> Iterator[tuple[int, Request]]:
        """Make the requests as they are sent; a budget that is reached ends them.

        The calls in flight go on: they are paid, so their answers are worth waiting for.
        Yields positions with their requests.
        """
        call, budget = self._call, self._asker.budget
        chooses = isinstance(call.declaration.answer, Choice)
        neutral = neutral_fields(call.fields) if chooses else None
        for position in positions:
            if not shares.is_again(position):  # else it is counted already
                self._limit = budget.reached()
                if self._limit is not None:
                    shares.close()
                    return
                budget.send()
                self._sent += 1
            within = None if order.fields is None else order.fields[position].tolist()
            row = int(order.rows[position])
            request = Request(
                instruction=call.declaration.instruction,
                fields=self._rendered(row, within),
                answer=call.declaration.answer,
                temperature=call.temperature,
                max_tokens=call.max_tokens,
                neutral=neutral,
                seed=call.seed,
                row_first=self._keys[row] in self._rows_in_front,
            )
            if self._groups is not None:
                group = self._groups.at(position)
                shared = group.shared if len(group.positions) > 1 else 0
                request = replace(request, group=group.name, shared=shared)
            yield position, request

    async def _in_time(self, provider: Provider, order: SendingOrder) -> None:
        """Make the calls; when the time is over, cancel those in flight."""
        budget = self._asker.budget
        try:
            async with asyncio.timeout(budget.seconds_left()) as scope:
                members = self._members(provider, order)
                turns: Sequence[Iterator[int]] = members.turns
                send = self._by_batch(provider, order) or members.send
                while True:
                    await send(turns)
                    # Two statements that are out of budget would wait for each other's claims.
                    if self._limit is not None or not self._shared.waiting:
                        break
                    await asyncio.sleep(POLL_SECONDS)
                    turns = [self._shared.ours_by_now()] * len(members)
        except TimeoutError:
            if not scope.expired():
                raise
            self._limit = budget.time_limit()

    def _members(self, provider: Provider, order: SendingOrder) -> Members:
        """Return who sends what of the round, and begin it."""
        settings = self._asker.settings
        members = members_of(provider)
        everything = PrefixGroup(range(len(order.rows)), "", 0)
        endpoints = [self._engine.endpoint(settings, member) for member in members]
        shares = Shares(
            [everything] if self._groups is None or len(members) == 1 else self._groups,
            [member.endpoint for member in members],
            free=lambda member: endpoints[member].free,
            ours=self._shared.ours,
        )
        keys = [self._keys[row] for row in order.rows]
        self._shared.begin(keys, max(endpoint.concurrency.limit for endpoint in endpoints))
        return Members(
            members,
            endpoints,
            shares,
            requests=partial(self._requests, order, shares),
            deliver=lambda position, outcome: self._deliver(int(order.rows[position]), outcome),
            parse=self._call.declaration.parse,
            may_send_another=self._may_send_another,
            limits=settings.limits,
            notify=self._engine.notify,
        )

    def _by_batch(self, provider: Provider, order: SendingOrder) -> Send | None:
        """Return what sends positions by the provider's batch API; None where nobody asked."""
        asker, first = self._asker, members_of(provider)[0]
        if not asker.settings.sends_by_batch(self._call):
            return None
        if not isinstance(first, TakesBatches):
            raise RequestRefused(f"{provider.endpoint} has no batch API: RESET llm_batch")
        ways = Ways(
            requests=partial(self._requests, order, Shares([], [first.endpoint])),
            deliver=lambda position, outcome: self._deliver(int(order.rows[position]), outcome),
            parse=self._call.declaration.parse,
            notify=self._engine.notify,
            is_interrupted=lambda: asker.interruption.asked,
            patience=asker.settings.reconnect_timeout,
        )
        records = self._engine.batch_records(self._cache)
        batch = ProviderBatch(
            first.batches, records, self._question.digest, ways, asker.budget, self._stats.price
        )

        async def send(turns: Sequence[Iterator[int]]) -> None:
            positions = list(chain(*turns))
            keys = [self._keys[int(order.rows[position])] for position in positions]
            await batch.send(dict(zip(self._question.keys(keys), positions, strict=True)))

        return send

    def _deliver(self, index: int, outcome: Outcome) -> None:
        stats, error = self._stats, outcome.error
        stats.calls += outcome.calls
        stats.retries += outcome.retries
        stats.add(outcome.usage)
        self._asker.budget.pay(outcome.usage, stats.price)
        if error is None:
            self._settle(self._keys[index], outcome.answer)
        self._known.latest.append(error is not None)
        self._engine.events.emit(
            CallFinished(
                self._asker.statement.number,
                stats.number,
                outcome.usage,
                outcome.seconds,
                error.cause if error else None,
                outcome.calls,
                outcome.retries,
            )
        )
        if error is not None:
            self._fail(index, error)

    def _may_send_another(self) -> bool:
        """Whether the budget has room for another call of a row; if so, count it."""
        if self._asker.budget.reached() is not None:
            return False
        self._asker.budget.send()
        return True

    def _settle(self, key: str, answer: str | None) -> None:
        self._known.answers[key] = answer
        self._shared.answered(key, answer)

    def _learn(self, answers: Answers) -> None:
        """Take the answers that others have given since the round began."""
        self._known.answers.update(answers)
        self._stats.cached += len(answers)
        self._engine.events.emit(
            AnswersFound(self._asker.statement.number, self._stats.number, len(answers))
        )

    def _fail(self, index: int, error: CallError) -> None:
        """Record a failure. Raises what stops the statement, if it does."""
        self._engine.without_keys(error).with_traceback(None)  # whose frames hold replies
        known, key = self._known, self._keys[index]
        known.answers[key] = None
        self._shared.failed(key)
        known.failed[key] = error
        if self._call.has_fallback:
            return
        self._stats.failures[error.cause] += 1
        self._record(index, error.cause, str(error), attempts=error.attempts, status=error.status)
        if self._asker.on_error(self._call) == "error":
            raise error
        latest, allowed = known.latest, self._asker.settings.max_error_ratio
        if len(latest) >= FEWEST_CALLS and sum(latest) > allowed * len(latest):
            raise self._too_many(error)

    def _how_far(self, gone: ServerUnreachable) -> ServerUnreachable:
        """Say what was done before the server went away."""
        done = sum(key in self._known.answers for key in self._keys)
        kept = "run the statement again to go on from there" if self._keeps else "not kept"
        return ServerUnreachable(
            f"{gone}\n{done:,} of {len(self._keys):,} questions of {self._call.function.upper()} "
            f"were answered before: {kept}."
        )

    def _too_many(self, last: CallError) -> TooManyFailures:
        latest = self._known.latest
        causes = ", ".join(f"{n:,} {cause}" for cause, n in self._stats.failures.most_common())
        return TooManyFailures(
            f"{sum(latest):,} of the last {len(latest):,} calls of "
            f"{self._call.function.upper()} failed, more than llm_max_error_ratio = "
            f"{self._asker.settings.max_error_ratio:g} allows; the statement is stopped. "
            f"All failures: {causes}. The last one: {last}\n"
            "What was answered is kept. SET llm_max_error_ratio = 1 goes on whatever happens."
        )

    def _leave_out(self, limit: Limit) -> None:
        """Leave out what was not answered before a budget was reached, as told to."""
        answers, stats, asker = self._known.answers, self._stats, self._asker
        left = [index for index, key in enumerate(self._keys) if key not in answers]
        if not left:
            return
        asker.statement.budget = str(limit)
        done = f"after {asker.budget.spent.shown()}"
        if on_budget(self._call, asker.settings) == "error":
            raise BudgetExceeded(
                f"{limit} is reached: stopped {done}; {len(left):,} of {len(self._keys):,} "
                f"questions of {self._call.function.upper()} are left. What was answered is kept."
            )
        for index in left:
            answers[self._keys[index]] = None
        if self._call.has_fallback:
            return
        stats.undecided += len(left)
        for index in left[:RECORDED_UNDECIDED]:
            self._record(index, "budget", f"left out: {limit} is reached {done}", attempts=0)

    def _record(
        self, index: int, cause: str, message: str, *, attempts: int, status: int | None = None
    ) -> None:
        number, fields = self._asker.statement.number, self._rendered(index)
        self._engine.failures.append(
            failure_of(
                number, self._stats, cause, message, fields, attempts=attempts, status=status
            )
        )

    def _rendered(self, index: int, order: Sequence[int] | None = None) -> str:
        return render_fields(self._call.fields, [values[index] for values in self._values], order)
