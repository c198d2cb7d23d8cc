"""Promise 2: the same rows and types as the naive plan, for at most as many calls."""

from __future__ import annotations

from collections import Counter

import duckdb
import pytest

from quackllm.engine.cache import MemoryCache
from quackllm.optimizer.rules import RULES
from tests.engine.conftest import Pair, close_pair, open_pair
from tests.engine.statements import (
    FORMS,
    GUARDED,
    NAIVE_MAY_ASK_LESS,
    SCALAR,
    STAGED,
    STAGED_ON_DUCKDB_2,
)


def assert_equal(pair: Pair, sql: str, *, calls: bool = True) -> None:
    planned_before, naive_before = pair.planned_fake.calls, pair.naive_fake.calls
    pair.naive_engine.cache = MemoryCache()
    rows, types = pair.run_planned(sql)
    naive_rows, naive_types = pair.run_naive(sql)
    assert types == naive_types
    if "ORDER BY" in sql.upper().rsplit(")", 1)[-1]:
        assert [repr(row) for row in rows] == [repr(row) for row in naive_rows]
    assert Counter(map(repr, rows)) == Counter(map(repr, naive_rows))
    if calls:
        planned_calls = pair.planned_fake.calls - planned_before
        assert planned_calls <= pair.naive_fake.calls - naive_before


@pytest.mark.parametrize("sql", [*STAGED, *FORMS, *GUARDED])
def test_staged_statement_equals_naive_plan(pair: Pair, sql: str) -> None:
    assert_equal(pair, sql)
    explained = pair.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    assert "scalar function" not in explained[1], explained[1]


@pytest.mark.parametrize("sql", STAGED_ON_DUCKDB_2)
def test_statement_that_only_duckdb_2_can_stage_equals_naive_plan(pair: Pair, sql: str) -> None:
    assert_equal(pair, sql)
    explained = pair.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    if int(duckdb.__version__.split(".")[0]) >= 2:
        assert "scalar function" not in explained[1], explained[1]


@pytest.mark.parametrize("sql", NAIVE_MAY_ASK_LESS)
def test_equal_where_the_naive_plan_may_ask_less(pair: Pair, sql: str) -> None:
    assert_equal(pair, sql, calls=False)


@pytest.mark.parametrize("sql", SCALAR)
def test_statement_that_cannot_be_staged_equals_naive_plan(pair: Pair, sql: str) -> None:
    assert_equal(pair, sql)
    explained = pair.planned.execute("EXPLAIN " + sql).fetchone()
    assert explained is not None
    assert "scalar function" in explained[1]


@pytest.mark.slow  # the goldens that show a rule are run without it by make test
@pytest.mark.parametrize("rule", [rule.__name__ for rule in RULES])
def test_every_rule_can_be_disabled(rule: str) -> None:
    pair = open_pair(disabled_rules=rule)
    try:
        for sql in STAGED[::4]:
            rows, types = pair.run_planned(sql)
            naive_rows, naive_types = pair.run_naive(sql)
            assert (Counter(map(repr, rows)), types) == (
                Counter(map(repr, naive_rows)),
                naive_types,
            ), sql
    finally:
        close_pair(pair)


def test_every_distinct_argument_tuple_is_asked_once(pair: Pair) -> None:
    pair.run_planned("SELECT LLM('x', body), upper(LLM('x', body)) FROM reviews")
    assert pair.planned_fake.calls == 23


def test_asking_for_no_rows_asks_no_model(pair: Pair) -> None:
    rows, types = pair.run_planned("SELECT title, LLM_SCORE('x', title) AS s FROM movies LIMIT 0")
    assert (rows, types, pair.planned_fake.calls) == ([], ["VARCHAR", "DOUBLE"], 0)


def test_the_same_call_on_two_tables_is_asked_once_per_value(pair: Pair) -> None:
    pair.run_planned(
        "SELECT LLM('x', t) FROM (SELECT genre AS t FROM movies) UNION ALL "
        "SELECT LLM('x', t) FROM (SELECT DISTINCT genre AS t FROM movies)"
    )
    assert pair.planned_fake.calls == 2
