"""Plans change only on purpose, and every golden statement equals the naive plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from quackllm.engine.connection import Connection
from quackllm.optimizer.rules import RULES
from tests.engine.conftest import close_pair, open_pair
from tests.engine.test_equality import assert_equal
from tests.optimizer.goldens import open_connection, plan_of, plans_here, statements

MOST_SHOWN = 4
"""Goldens that are run without a rule: some rules are in most of them."""


@pytest.fixture(scope="module")
def planning() -> Iterator[Connection]:
    with open_connection() as connection:
        yield connection


@pytest.mark.parametrize("path", statements(), ids=lambda path: path.stem)
def test_plan_is_the_reviewed_one(path: Path, planning: Connection) -> None:
    if not plans_here(path):
        pytest.skip("runs by the scalar function on DuckDB 1.x")
    assert plan_of(planning, path.read_text()) == path.with_suffix(".plan").read_text()


@pytest.mark.parametrize("path", statements(), ids=lambda path: path.stem)
def test_golden_statement_equals_naive_plan(path: Path) -> None:
    pair = open_pair()
    try:
        assert_equal(pair, path.read_text())
    finally:
        close_pair(pair)


def test_every_rule_has_a_golden_plan_that_shows_it() -> None:
    plans = "".join(path.with_suffix(".plan").read_text() for path in statements())
    unshown = {rule.__name__ for rule in RULES if rule.__name__ not in plans}
    assert unshown == {"order_predicates"}  # needs a sample: test_order_predicates.py shows it


@pytest.mark.parametrize("rule", [rule.__name__ for rule in RULES])
def test_without_a_rule_the_goldens_that_show_it_have_the_same_rows(rule: str) -> None:
    showing = [path for path in statements() if rule in rules_of(path)]
    pair = open_pair(disabled_rules=rule)
    try:
        for path in showing[:MOST_SHOWN]:
            assert_equal(pair, path.read_text(), calls=False)
    finally:
        close_pair(pair)


def rules_of(path: Path) -> list[str]:
    """The rules that a golden plan names."""
    return re.findall(r"\w+", path.with_suffix(".plan").read_text().rpartition("rules:")[2])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_is_documented_with_one_example(rule: object) -> None:
    module = __import__(f"quackllm.optimizer.rules.{rule.__name__}", fromlist=["x"])  # type: ignore[attr-defined]
    assert "Before:" in (module.__doc__ or "")
    assert "After:" in (module.__doc__ or "")
