"""The ways that a plan was preferred to, each planned and costed like the plan itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quackllm.engine.estimates import Estimates, Estimator
from quackllm.engine.planner import PlannedQuery
from quackllm.optimizer.cost import Cost, total
from quackllm.optimizer.rules import RULES
from quackllm.optimizer.rules.stage_calls import stage_calls


@dataclass(frozen=True)
class Alternative:
    """A way not taken, and what it was expected to cost."""

    name: str
    cost: Cost


def chosen(estimates: Estimates) -> Cost:
    """Add up what the stages that can be told are expected to cost."""
    return total(e.expected for e in estimates.values() if e.expected is not None)


PlanWithout = Callable[[frozenset[str]], PlannedQuery]
"""Plans the statement with some rules left out."""


def alternatives(
    estimator: Estimator, planned: PlannedQuery, estimates: Estimates, plan_without: PlanWithout
) -> list[Alternative]:
    """Cost the ways that were not taken; of each only if all its stages can be told."""
    if not estimates or any(e.expected is None for e in estimates.values()):
        return []
    taken = chosen(estimates)
    found = []
    for rule in planned.program.applied:
        if rule != stage_calls.__name__:
            cost = _cost_of(estimator, plan_without(frozenset({rule})), planned)
            found.append((f"without the rule {rule}", cost))
    per_row = [e.per_row for e in estimates.values()]
    found.append(("one call per row that reaches the call", _total(per_row)))
    found.append(
        ("rows and fields as they come", _total([e.unordered for e in estimates.values()]))
    )
    names = frozenset(rule.__name__ for rule in RULES) - {stage_calls.__name__}
    bare = plan_without(names)
    unruled = estimator.stages(bare)
    if not bare.program.unstaged:
        naive = _total([e.per_row for e in unruled.values()])
        found.append(("no rule, and one call per row", naive))
    return [Alternative(name, cost) for name, cost in found if cost is not None and cost != taken]


def _cost_of(estimator: Estimator, other: PlannedQuery, planned: PlannedQuery) -> Cost | None:
    if len(other.program.unstaged) > len(planned.program.unstaged):
        return None
    return _total([e.expected for e in estimator.stages(other).values()])


def _total(costs: Sequence[Cost | None]) -> Cost | None:
    known = [cost for cost in costs if cost is not None]
    return total(known) if known and len(known) == len(costs) else None
