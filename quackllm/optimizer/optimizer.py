"""The driver: runs the rules in order and holds each to its contract."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from quackllm.errors import QuackLLMError
from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.lower import bindable
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules import RULES, Rule
from quackllm.optimizer.rules.order_predicates import order_predicates


class RuleError(QuackLLMError):
    """A rule made a plan that does not bind or has other columns. A defect of ours.

    rule: its name, to be left out.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def optimize(
    plan: Plan,
    catalog: Catalog,
    schema: tuple[tuple[str, str], ...] | None,
    *,
    rules: Sequence[Rule] = RULES,
    disabled: Collection[str] = (),
    learn: Callable[[Plan], None] | None = None,
) -> Plan:
    """Run the rules, and compare the schema of the output with what it has to be.

    schema: names and types of the statement's columns, which no rule may change.
    learn: told the plan before its predicates are ordered; finds out what decides the order.

    DuckDB is asked once, at the end. Where its answer is not the schema, the rules run
    again and it is asked after each. Raises `RuleError` with the name of the rule after
    which names or types differ, in the manner of DataFusion's optimizer.
    """
    enabled = [rule for rule in rules if rule.__name__ not in disabled]
    optimized = plan
    for rule in enabled:
        if rule is order_predicates and learn is not None:
            learn(optimized)
        optimized = _applied(rule, optimized, catalog)
    if optimized is plan or catalog.schema(bindable(optimized)) == schema:
        return optimized
    for rule in enabled:
        changed = _applied(rule, plan, catalog)
        after = schema if changed is plan else catalog.schema(bindable(changed))
        if after != schema:
            name = rule.__name__
            raise RuleError(
                name,
                f"Optimizer rule {name} changed the columns of the statement from {schema} to "
                f"{after}. SET llm_disabled_rules = '{name}' works around it; please report it.",
            )
        plan = changed
    return plan


def _applied(rule: Rule, plan: Plan, catalog: Catalog) -> Plan:
    changed = rule(plan, catalog)
    if changed is plan:
        return plan
    return replace(changed, applied=(*plan.applied, rule.__name__))
