"""The driver: a rule that changes the columns of a statement is named, and left out."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pytest

import quackllm
from quackllm.engine.catalog import DuckCatalog, DuckDBFacts
from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.optimizer import RuleError, optimize
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules import Rule
from quackllm.optimizer.sql import parse
from quackllm.testing import FakeProvider

SCHEMA = (("a", "INTEGER"),)


def _plan() -> Plan:
    return Plan(parse("SELECT 1 AS a"), {})


def _catalog() -> DuckCatalog:
    return DuckCatalog(duckdb.connect(), DuckDBFacts(), {}, {})


def keeps_columns(plan: Plan, catalog: Catalog) -> Plan:
    return replace(plan, root=parse("SELECT 2 - 1 AS a"))


def does_nothing(plan: Plan, catalog: Catalog) -> Plan:
    return plan


def changes_a_type(plan: Plan, catalog: Catalog) -> Plan:
    return replace(plan, root=parse("SELECT 'one' AS a"))


def names_what_is_not_there(plan: Plan, catalog: Catalog) -> Plan:
    return replace(plan, root=parse("SELECT b AS a"))


def test_rules_that_change_something_are_applied_in_order() -> None:
    plan = optimize(_plan(), _catalog(), SCHEMA, rules=(keeps_columns, does_nothing))
    assert plan.applied == ("keeps_columns",)


@pytest.mark.parametrize("broken", [changes_a_type, names_what_is_not_there])
def test_the_rule_that_changed_the_columns_is_named(broken: Rule) -> None:
    rules = (keeps_columns, broken, does_nothing)
    with pytest.raises(RuleError, match=broken.__name__) as caught:
        optimize(_plan(), _catalog(), SCHEMA, rules=rules)
    assert caught.value.rule == broken.__name__


def test_a_disabled_rule_does_not_run() -> None:
    plan = optimize(
        _plan(), _catalog(), SCHEMA, rules=(changes_a_type,), disabled={"changes_a_type"}
    )
    assert plan.applied == ()


def test_a_longer_chain_of_ctes_asks_duckdb_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    bound = DuckCatalog._bound

    def counted(self: DuckCatalog, sql: str) -> object:
        asked.append(sql)
        return bound(self, sql)

    monkeypatch.setattr(DuckCatalog, "_bound", counted)

    def times(ctes: int) -> int:
        first = "w0 AS (SELECT * FROM t WHERE LLM_FILTER('q', d))"
        later = [f"w{i} AS (SELECT * FROM w{i - 1} WHERE c <> {i})" for i in range(1, ctes)]
        chain = ", ".join([first, *later])
        asked.clear()
        with quackllm.connect(provider=FakeProvider(), progress=False) as con:
            con.execute("CREATE TABLE t(c INTEGER, d VARCHAR)")
            con.execute(f"EXPLAIN WITH {chain} SELECT * FROM w{ctes - 1} WHERE LLM_FILTER('p', d)")
        return len(asked)

    assert times(12) <= times(3) <= 10
