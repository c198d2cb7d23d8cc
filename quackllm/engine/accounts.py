"""Budgets and plans: what a plan costs for certain, and what is left of it to pay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from quackllm.engine.batch import on_budget
from quackllm.engine.budget import Budget, Limit, Unit
from quackllm.engine.engine import Engine, wanted_model
from quackllm.engine.estimates import Estimates, Estimator, StageEstimate, undecided
from quackllm.engine.history import money
from quackllm.engine.planner import PlannedQuery
from quackllm.engine.run import Run
from quackllm.engine.settings import Settings
from quackllm.engine.wording import in_our_words
from quackllm.errors import BudgetExceeded, SettingError
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
        for call in _calls(planned).values():
            # Which answers are remembered is known of an opened provider only.
            provider = run.provider(call)
            price = self._engine.price(self._settings, call)
            run.budget.check_price(provider.model, price)
        excess = self._excess(run.budget, planned, self._estimator(run).stages(planned))
        if excess is not None:
            raise BudgetExceeded(
                f"the statement {excess}: it is not begun. EXPLAIN shows where they are needed; "
                "SET llm_on_budget = 'partial' gives the rows that the budget decides."
            )

    def refusal(self, planned: PlannedQuery, estimates: Estimates) -> str | None:
        """Say why `refuse_beyond` would raise, None if it would not; nothing is opened.

        Answers that only an opened provider knows as its own are taken for missing.
        """
        budget = Budget(self._settings, self._engine.spent)
        try:
            for call in _calls(planned).values():
                model = wanted_model(self._settings, call) or "the model"
                budget.check_price(model, self._engine.price(self._settings, call))
        except SettingError as error:
            return str(error).removeprefix("Invalid Input Error: ")
        return self._excess(budget, planned, estimates)

    def _excess(self, budget: Budget, planned: PlannedQuery, estimates: Estimates) -> str | None:
        """Say which limit the certain part of a plan exceeds, None if it keeps to them all."""
        calls = _calls(planned)
        counted = [
            (calls[number], estimate)
            for number, estimate in estimates.items()
            if estimate.certain and on_budget(calls[number], self._settings) == "error"
        ]
        for limit in budget.limits:
            if limit.unit is Unit.SECONDS:
                continue
            least = sum(self._least(limit.unit, call, estimate) for call, estimate in counted)
            if least > budget.room(limit):
                return _beyond(limit, least, budget.room(limit))
        return None

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
        price = self._engine.price(self._settings, call)
        return 0.0 if price is None else price.dollars(tokens, tokens, 0)

    def _estimator(self, run: Run | None) -> Estimator:
        running = None if run is None else run.stats
        return Estimator(self._connection, self._engine, self._settings, self._parameters, running)


def _calls(planned: PlannedQuery) -> dict[int, Call]:
    """The calls of the stages, by the number of the stage."""
    if planned.plan is None:
        return {}
    return {ceiling.number: ceiling.site.call for ceiling in ceilings(planned.plan)}


def _beyond(limit: Limit, least: float, room: float) -> str:
    needed = money(least) if limit.unit is Unit.DOLLARS else f"{least:,.0f} {limit.unit.value}"
    left = money(max(room, 0)) if limit.unit is Unit.DOLLARS else f"{max(room, 0):,.0f}"
    shared = f", of which {left} are left" if limit.shared else ""
    return f"takes at least {needed}, and {limit}{shared}"
