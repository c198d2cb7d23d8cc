"""Budgets and plans: what a plan costs for certain, and what is left of it to pay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from quackllm.engine.budget import Limit, Unit
from quackllm.engine.engine import Engine
from quackllm.engine.estimates import Estimator, StageEstimate, undecided
from quackllm.engine.history import money
from quackllm.engine.planner import PlannedQuery
from quackllm.engine.run import Run
from quackllm.engine.settings import Settings
from quackllm.engine.wording import in_our_words
from quackllm.errors import BudgetExceeded
from quackllm.optimizer.cost import total
from quackllm.optimizer.lower import ceilings
from quackllm.udfs.base import Call

MOST_CHARACTERS = 2
"""Where no prompt of a model was counted yet, its tokens are at least the estimate divided
by this: of ordinary text a token holds four characters, and seldom eight on average."""


class Accounts:
    """Estimates the plans of one statement for its budget."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        engine: Engine,
        settings: Settings,
        parameters: Mapping[str, Any],
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._settings = settings
        self._parameters = parameters

    def undecided(self, planned: PlannedQuery) -> bool:
        """Whether samples of the model may still change the plan."""
        estimates = self._estimator(None).stages(planned)
        return undecided(planned, estimates, self._settings)

    def refuse_beyond(self, run: Run, planned: PlannedQuery) -> None:
        """Raise `BudgetExceeded` when the least that a plan costs exceeds a budget.

        Calls that are content with partial answers do not count. Time is not judged here.
        """
        calls = _calls(planned)
        for call in calls.values():
            # Which answers are remembered is known of an opened provider only.
            provider = self._engine.provider(self._settings, call.model)
            price = self._engine.price(self._settings, call.model)
            run.budget.check_price(provider.model, price)
        estimates = self._estimator(run).stages(planned)
        counted = [
            (calls[number], estimate)
            for number, estimate in estimates.items()
            if estimate.certain and run.asker.on_budget(calls[number]) == "error"
        ]
        for limit in run.budget.limits:
            if limit.unit is Unit.SECONDS:
                continue
            least = sum(self._least(limit.unit, call, estimate) for call, estimate in counted)
            if least > run.budget.room(limit):
                raise BudgetExceeded(_refusal(limit, least, run))

    @contextmanager
    def telling(self, planned: PlannedQuery) -> Iterator[None]:
        """Have a `BudgetExceeded` say also what finishing the plan would cost."""
        try:
            with in_our_words(self._engine.functions):
                yield
        except BudgetExceeded as error:
            stopped = BudgetExceeded(f"{error}\n{self._outlook(planned)}")
        else:
            return
        raise stopped

    def _outlook(self, planned: PlannedQuery) -> str:
        """Estimate the rest of a plan, with the answers that are kept now."""
        costs = []
        with suppress(duckdb.Error):  # in a transaction that the error has aborted
            estimates = self._estimator(None).stages(planned)
            costs = [each.expected for each in estimates.values() if each.expected is not None]
        if not costs:
            return "What finishing would cost is not known."
        rest = total(costs)
        parts = [f"about {rest.calls:,} calls"]
        if rest.tokens_in is not None and rest.tokens_out is not None:
            parts.append(f"{rest.tokens_in + rest.tokens_out:,} tokens")
        if rest.dollars is not None:
            parts.append(money(rest.dollars))
        unknown = len(costs) < len(estimates) or planned.program.unstaged
        more = ", and calls whose number is not known yet" if unknown else ""
        return (
            f"To finish, by running it again with a larger budget: {', '.join(parts)}{more}. "
            "SET llm_on_budget = 'partial' gives the rows that are decided."
        )

    def _least(self, unit: Unit, call: Call, estimate: StageEstimate) -> float:
        """What a stage costs at least, all of its prompts taken from the prefix cache."""
        assert estimate.demand is not None
        if unit is Unit.CALLS:
            return estimate.demand.calls
        exact = estimate.measured.prompt
        tokens = (estimate.demand.tokens or 0) * (exact or 1 / MOST_CHARACTERS)
        if unit is Unit.TOKENS:
            return int(tokens)
        price = self._engine.price(self._settings, call.model)
        return 0.0 if price is None else price.dollars(tokens, tokens, 0)

    def _estimator(self, run: Run | None) -> Estimator:
        running = None if run is None else run.stats
        return Estimator(self._connection, self._engine, self._settings, self._parameters, running)


def _calls(planned: PlannedQuery) -> dict[int, Call]:
    """The calls of the stages, by the number of the stage."""
    if planned.plan is None:
        return {}
    return {ceiling.number: ceiling.site.call for ceiling in ceilings(planned.plan)}


def _refusal(limit: Limit, least: float, run: Run) -> str:
    needed = money(least) if limit.unit is Unit.DOLLARS else f"{least:,.0f} {limit.unit.value}"
    room = run.budget.room(limit)
    left = money(max(room, 0)) if limit.unit is Unit.DOLLARS else f"{max(room, 0):,.0f}"
    shared = f", of which {left} are left" if limit.shared else ""
    return (
        f"the statement takes at least {needed}, and {limit}{shared}: it is not begun. EXPLAIN "
        f"shows where they are needed; SET llm_on_budget = 'partial' gives the rows that "
        "the budget decides."
    )
