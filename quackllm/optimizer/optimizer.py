"""The driver: runs the rules in order and holds each to its contract."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from quackllm.errors import QuackLLMError
from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.lower import bindable
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules import RULES, Rule


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
) -> Plan:
    """Run the rules; after each that changed the plan, compare the output's schema.

    schema: names and types of the statement's columns, which no rule may change.

    Raises `RuleError` with the rule's name when names or types differ afterwards, in
    the manner of DataFusion's optimizer.
    """
    for rule in rules:
        name = rule.__name__
        if name in disabled:
            continue
        changed = rule(plan, catalog)
        if changed is plan:
            continue
        after = catalog.schema(bindable(changed))
        if after != schema:
            raise RuleError(
                name,
                f"Optimizer rule {name} changed the columns of the statement from {schema} to "
                f"{after}. SET llm_disabled_rules = '{name}' works around it; please report it.",
            )
        plan = replace(changed, applied=(*plan.applied, name))
    return plan
