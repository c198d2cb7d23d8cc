"""Planning does no work twice: what it may leave out, and that leaving it out changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlglot import exp
from sqlglot.expressions.core import Expression

import quackllm
from quackllm.engine.connection import Connection
from quackllm.optimizer import program
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.readable import readable
from quackllm.optimizer.scope import selects
from quackllm.optimizer.sql import find_all, parse
from quackllm.testing import FakeProvider
from tests.optimizer.goldens import open_connection, plan_of, plans_here, statements

CLASSES = (exp.Column, exp.Join, exp.CTE, exp.Subquery, exp.Union, exp.In, exp.Exists, exp.Star)


@pytest.fixture(scope="module")
def trees() -> list[exp.Expr]:
    return [parse(path.read_text()) for path in statements()]


@pytest.fixture
def con() -> Iterator[Connection]:
    with quackllm.connect(provider=FakeProvider(), progress=False) as connection:
        connection.execute("CREATE TABLE t(c INTEGER, d VARCHAR)")
        yield connection


def test_a_plan_knows_what_its_tree_holds(trees: list[exp.Expr]) -> None:
    for root in trees:
        plan = Plan(root, {})
        assert plan.selects == tuple(selects(root))
        assert [plan.holds(each) for each in CLASSES] == [
            root.find(each) is not None for each in CLASSES
        ]


def test_walks_give_the_nodes_that_sqlglot_gives(trees: list[exp.Expr]) -> None:
    for root in trees:
        for each in CLASSES:
            assert [*map(id, find_all(root, each))] == [*map(id, root.find_all(each))]


def test_rules_that_look_before_they_copy_overlook_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Plan, "holds", lambda *_: True)
    monkeypatch.setattr(Plan, "has_nested_calls", True)
    with open_connection() as connection:
        for path in statements():
            if plans_here(path):
                reviewed = path.with_suffix(".plan").read_text()
                assert plan_of(connection, path.read_text()) == reviewed, path.stem


def test_a_plan_is_written_for_people_when_they_ask(
    con: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def counted(*given: Any) -> str:
        written.append(readable(*given))
        return written[-1]

    monkeypatch.setattr(program, "readable", counted)
    statement = "SELECT c FROM t WHERE LLM_FILTER('q', d)"
    con.execute(statement)
    assert not written
    con.execute(f"EXPLAIN {statement}")
    assert len(written) == 1


def test_probes_do_not_copy_the_ctes_that_they_see(
    con: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = 0
    copy = Expression.__deepcopy__

    def counted(self: Expression, memo: Any) -> exp.Expr:
        nonlocal copied
        copied += sum(isinstance(node, exp.CTE) for node in self.walk())
        return copy(self, memo)

    monkeypatch.setattr(Expression, "__deepcopy__", counted)

    def copies(ctes: int) -> int:
        nonlocal copied
        first = "w0 AS MATERIALIZED (SELECT *, LLM('q0', d) AS a0 FROM t)"
        later = [
            f"w{i} AS MATERIALIZED (SELECT *, LLM('q{i}', d) AS a{i} FROM w{i - 1})"
            for i in range(1, ctes)
        ]
        copied = 0
        con._session._planner.query(
            f"WITH {', '.join([first, *later])} SELECT * FROM w{ctes - 1} ORDER BY 1",
            {},
            "1",
            frozenset(),
        )
        return copied

    assert copies(12) <= 2.1 * copies(6)  # twice as many, not four times
