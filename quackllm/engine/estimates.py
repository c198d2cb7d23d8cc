"""What a planned statement will cost: DuckDB counts, the connection remembers, nobody is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
from sqlglot import exp

from quackllm.engine.demands import Demands
from quackllm.engine.early_stop import FIRST_BATCH
from quackllm.engine.engine import Engine
from quackllm.engine.experience import Experience, experience
from quackllm.engine.history import StatementStats
from quackllm.engine.joins.estimates import JoinEstimates, SearchEstimate
from quackllm.engine.planner import PlannedQuery
from quackllm.engine.providers.base import Capabilities, Provider
from quackllm.engine.row_first import (
    Sending,
    is_wanted,
    question_tokens,
    saved_tokens,
    shown,
)
from quackllm.engine.settings import Settings
from quackllm.optimizer.cost import (
    Cost,
    Demand,
    Measured,
    Spread,
    cost_at_most,
    cost_expected,
    probability,
    share_until,
    share_until_match,
)
from quackllm.optimizer.guards import uses
from quackllm.optimizer.lower import ceilings
from quackllm.optimizer.plan import Plan, Site
from quackllm.optimizer.program import Ceiling
from quackllm.optimizer.rules.order_predicates import order_predicates
from quackllm.optimizer.sampling import SMALLEST_TABLE
from quackllm.optimizer.sql import conjuncts
from quackllm.udfs.base import Call
from quackllm.udfs.filter import of_several


@dataclass(frozen=True)
class StageEstimate:
    """What a stage will cost. demand and costs are None when it cannot be told.

    share: part of the calls that is expected to be made; answers: how many answers that
        rests on, 0 when it is assumed, None when nothing had to be known.
    certain: whether the calls of `demand` are made whatever is answered.
    row_first: whether the row goes before the question, for several questions to share it.
    by_batch: whether the provider's batch API answers, batch_price: part of the price that it
        then costs, None where that is not known.
    search: of a join whose pairs need not all be asked, its pairs and its strategy.
    advice: what would ask less, at a price.
    unordered: `expected`, with the rows sent as they come. per_row: with a call for
        every row, equal ones too. None where that is not known.
    """

    demand: Demand | None = None
    at_most: Cost | None = None
    expected: Cost | None = None
    share: float = 1.0
    answers: int | None = None
    certain: bool = False
    measured: Measured = field(default_factory=Measured)
    row_first: bool = False
    by_batch: bool = False
    batch_price: float | None = None
    search: SearchEstimate | None = None
    advice: str | None = None
    unordered: Cost | None = None
    per_row: Cost | None = None


Estimates = Mapping[int, StageEstimate]
"""By the number of the stage."""


@dataclass(frozen=True)
class _Reached:
    """Which tuples a stage asks about: `demand`, `share`, `answers`, `search` of its estimate."""

    demand: Demand | None
    share: float
    answers: int | None
    search: SearchEstimate | None


class Estimator:
    """Estimates the stages of planned queries of one statement."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        engine: Engine,
        settings: Settings,
        parameters: Mapping[str, Any],
        running: StatementStats | None = None,
    ) -> None:
        """Make an estimator; `running` is the statement, when samples were asked for it."""
        self._engine = engine
        self._settings = settings
        self._demands = Demands(connection, engine, settings, parameters, self._experience, running)
        self._joins = JoinEstimates(self._demands.counted, settings)

    def stages(self, planned: PlannedQuery) -> Estimates:
        """Estimate every stage of a plan. Calls no model and opens no provider."""
        plan = planned.plan
        if plan is None:
            return {}
        self._demands.begin()
        asked: dict[tuple[str, str | None], set[str]] = {}
        stops: dict[int, float] = {}
        estimates: dict[int, StageEstimate] = {}
        all_of_them = ceilings(plan)
        in_front = _InFront(self._settings, [each.site for each in all_of_them])
        for ceiling in all_of_them:
            call = ceiling.site.call
            known = asked.setdefault((call.identity, call.model), set())
            found = self._reached(plan, ceiling, known, stops)
            provider = self._engine.opened_provider(self._settings, call)
            demand, row_first = in_front.demand(call, found.demand, provider)
            estimate = self._estimate(call, demand, found.share, found.answers)
            if found.search is not None and found.search.name == "batch_prompt":
                estimate = self._of_prompts(call, found.search, estimate)
            estimates[ceiling.number] = replace(
                estimate,
                certain=_is_certain(ceiling, found),
                row_first=row_first,
                by_batch=self._settings.sends_by_batch(call),
                batch_price=self._engine.batch_price(self._settings, call),
                search=found.search,
                advice=self._joins.advice(plan, ceiling, demand),
            )
        return estimates

    def _reached(
        self, plan: Plan, ceiling: Ceiling, asked: set[str], stops: dict[int, float]
    ) -> _Reached:
        """Say which tuples reach a call, and are asked before its block stops.

        asked: keys that earlier stages ask the same question for; those of this stage are
            added where all of them are asked.
        stops: by the number of a block, the share that is asked before it stops; its first
            stage says which, and adds it.
        """
        block = ceiling.block
        share, answers = self._reach(ceiling)
        search = self._joins.search(ceiling)
        exact = search is None or search.name == "exact"
        keys: list[str] = []
        if search is None or exact:
            demand, keys = self._demands.of(ceiling, asked)
        else:
            demand = search.demand
            share *= min(1.0, search.way.calls / max(1, demand.tuples))
            answers = 0 if answers is None else answers
        if block.number not in stops:
            stops[block.number] = self._stop(plan, ceiling, demand)
        partner = self._first_partner(plan, ceiling, demand) if exact else 1.0
        stop = min(stops[block.number], partner)
        share *= stop
        if stop < 1:
            answers = min([self._seen(ceiling)] + ([] if answers is None else [answers]))
        if share == 1:
            asked.update(keys)
        return _Reached(demand, share, answers, search)

    def _experience(self, call: Call) -> Experience:
        provider = self._engine.opened_provider(self._settings, call)
        return experience(self._engine.history, provider)

    def _estimate(
        self, call: Call, demand: Demand | None, share: float, answers: int | None
    ) -> StageEstimate:
        if demand is None:
            return StageEstimate(share=share, answers=answers)
        measured = self._experience(call).measured(call)
        price = self._engine.price(self._settings, call)
        limit = call.max_tokens
        expected = cost_expected(demand, share, limit, measured, price)
        unordered = replace(demand, reused=demand.reused_unordered)
        per_row = None
        if demand.rows is not None and demand.row_tokens is not None and demand.tokens is not None:
            again = demand.row_tokens - demand.tokens  # a prompt sent again is reused whole
            rows = Demand(
                demand.rows, demand.rows, 0, demand.row_tokens, (demand.reused or 0) + max(again, 0)
            )
            per_row = cost_expected(rows, share, limit, measured, price)
        return StageEstimate(
            demand=demand,
            at_most=cost_at_most(demand, limit, measured, price),
            expected=expected,
            share=share,
            answers=answers,
            measured=measured,
            unordered=cost_expected(unordered, share, limit, measured, price),
            per_row=per_row,
        )

    def _of_prompts(
        self, call: Call, search: SearchEstimate, estimate: StageEstimate
    ) -> StageEstimate:
        """Tell what prompts for several pairs cost: not what a part of those for one would."""
        assert estimate.demand is not None
        way, measured = search.way, estimate.measured
        price = self._engine.price(self._settings, call)
        most = self._settings.pairs_per_prompt
        longest = of_several(None, call.fields, most, shared=True).declaration.max_tokens
        alone = way.calls - way.several
        answers = (way.several * longest + alone * call.max_tokens) // max(1, way.calls)
        reached = estimate.share * estimate.demand.tuples / max(1, way.calls)
        demand = Demand(way.calls, search.counts.pairs, tokens=way.tokens)
        return replace(
            estimate,
            at_most=cost_at_most(estimate.demand, longest, measured, price),
            expected=cost_expected(demand, min(1.0, reached), answers, measured, price),
        )

    def _spreads(self, ceiling: Ceiling) -> dict[str, Spread]:
        return {
            site.column: self._experience(site.call).spread(site.call)
            for site in ceiling.block.sites
        }

    def _reach(self, ceiling: Ceiling) -> tuple[float, int | None]:
        """Share of the tuples that reach a call, and the answers that this rests on.

        A joint call is about all of them as soon as one row reaches it.
        """
        if ceiling.site.is_joint:
            return 1.0, None
        spreads = self._spreads(ceiling)
        share, answers = 1.0, None
        for guard in ceiling.site.guards:
            used = [spread for column, spread in spreads.items() if uses(guard, {column})]
            if used:
                share *= probability(guard, spreads)
                answers = min([s.seen for s in used] + ([] if answers is None else [answers]))
        return share, answers

    def _seen(self, ceiling: Ceiling) -> int:
        return min(spread.seen for spread in self._spreads(ceiling).values())

    def _stop(self, plan: Plan, ceiling: Ceiling, demand: Demand | None) -> float:
        """Share of a block's tuples that are asked before it stops."""
        block = ceiling.block
        if block.stop_after is None or demand is None or demand.rows is None:
            return 1.0
        if block.keys or block.counts or block.limited:  # how many rows count is not known here
            return 1.0
        where = plan.select_of(block).args.get("where")
        passing = self._passing(ceiling, where.this if where else None)
        return share_until(block.stop_after, passing, demand.tuples, demand.rows, FIRST_BATCH)

    def _passing(self, ceiling: Ceiling, condition: exp.Expr | None) -> float:
        """Share of the rows of a block whose answers fulfil a condition."""
        spreads = self._spreads(ceiling)
        passing = 1.0
        for part in conjuncts(condition):
            if uses(part, set(spreads)):
                passing *= probability(part, spreads)
        return passing

    def _first_partner(self, plan: Plan, ceiling: Ceiling, demand: Demand | None) -> float:
        """Share of the pairs of a join that are asked before each row has its first match."""
        block = ceiling.block
        partners = block.partners_by(ceiling.site)
        if partners is None or ceiling.partners is None or demand is None or not demand.rows:
            return 1.0
        counted = self._demands.counted(f"SELECT count(*) FROM ({ceiling.partners})")
        if counted is None:
            return 1.0
        condition = partners.condition(plan.select_of(block))
        rows = max(1, counted.column(0)[0].as_py())
        passing, pairs_of_each = self._passing(ceiling, condition), demand.rows / rows
        share = share_until_match(passing, pairs_of_each)
        if partners.stop_after is None:
            return share
        matching = 1 - (1 - passing) ** pairs_of_each
        return share * share_until(partners.stop_after, matching, rows, rows, FIRST_BATCH)


def _is_certain(ceiling: Ceiling, found: _Reached) -> bool:
    """Whether the calls of a stage are made whatever is answered, and are not guessed."""
    demand, block = found.demand, ceiling.block
    counted = demand is not None and demand.tokens is not None and None not in ceiling.columns
    all_asked = block.stop_after is None and not block.partners
    is_one_call = ceiling.site.call.declaration.is_one_call
    return counted and is_one_call and found.answers is None and all_asked


class _InFront:
    """Which questions of a statement show the row first, as `row_first.RowsInFront` decides it."""

    def __init__(self, settings: Settings, sites: Sequence[Site]) -> None:
        self._asked = [(site.call, bool(site.guards)) for site in sites]
        self._settings = settings
        self._shown: set[object] = set()

    def demand(
        self, call: Call, demand: Demand | None, provider: Provider | None
    ) -> tuple[Demand | None, bool]:
        """Return the demand of a call with what is then reused, and whether its row is first."""
        can = provider.capabilities if provider else Capabilities()
        if demand is None or demand.tokens is None or demand.reused is None:
            return demand, False
        if not is_wanted(self._settings, can):
            return demand, False
        calls, own = demand.tuples - demand.remembered, question_tokens(call)
        sending = Sending(calls, demand.tokens, demand.reused, can)
        if shown(call) in self._shown:
            return replace(demand, reused=max(demand.reused, sending.reused_by_later(own))), True
        if saved_tokens(call, self._asked, sending) <= 0:
            return demand, False
        self._shown.add(shown(call))
        return replace(demand, reused=sending.reused_by_first(own)), True


def undecided(planned: PlannedQuery, estimates: Estimates, settings: Settings) -> bool:
    """Whether a sample may still change the order of predicates when the statement runs."""
    if planned.plan is None or order_predicates.__name__ in settings.disabled_rules:
        return False
    stages = {ceiling.number: ceiling for ceiling in ceilings(planned.plan)}
    for block in planned.plan.blocks:
        asked = [
            estimate.demand.tuples
            for number, estimate in estimates.items()
            if stages[number].block.number == block.number
            and stages[number].site.clause == "where"
            and estimate.demand is not None
        ]
        if len(asked) > 1 and max(asked) >= SMALLEST_TABLE:
            return True
    return False
