"""Promise 4: a budget holds, says what is left to pay, and loses nothing that was answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import quackllm
from benchmarks.reliability.budgets import random_run
from quackllm.engine.accounts import Accounts
from quackllm.engine.cache import Question
from quackllm.engine.cache.base import Claimed
from quackllm.engine.connection import Connection
from quackllm.engine.estimates import Estimator
from quackllm.engine.settings import Settings
from quackllm.errors import BudgetExceeded, ServerFailed, SettingError
from quackllm.testing import FakeProvider, Fault
from tests.engine.conftest import Pair
from tests.engine.statements import STAGED

TABLE = "CREATE TABLE t AS SELECT i, 'row ' || i AS v FROM range(100) r(i)"
ALL = "SELECT i, LLM('x', v) FROM t"
SCALAR = "SELECT i, list_transform([v], x -> LLM('x', x))[1] FROM t"


@contextmanager
def opened(
    fake: FakeProvider | None = None, **settings: Any
) -> Iterator[tuple[Connection, FakeProvider]]:
    fake = fake or FakeProvider()
    settings = {"concurrency": 4, **settings}
    with quackllm.connect(provider=fake, progress=False, **settings) as connection:
        connection.execute(TABLE)
        yield connection, fake


@pytest.mark.parametrize("block", range(5))
def test_no_random_run_spends_more_or_pays_twice_or_gives_a_wrong_row(block: int) -> None:
    for number in range(4):
        random_run(1000 + 4 * block + number)


@pytest.mark.slow
def test_no_run_of_many_spends_more_than_its_budget() -> None:
    """The first of the thousand that `benchmarks.reliability.budgets` does."""
    for seed in range(1, 301):
        random_run(seed)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("llm_max_calls = 99", "at least 100 calls, and llm_max_calls = 99"),
        ("llm_connection_max_calls = 99", "llm_connection_max_calls = 99, of which 99 are left"),
        ("llm_max_tokens = 100", "tokens, and llm_max_tokens = 100"),
        ("llm_max_cost = 0.0001", "at least $0.0"),
    ],
)
def test_what_costs_too_much_for_certain_is_not_begun(setting: str, words: str) -> None:
    with opened(input_price=10, output_price=10) as (con, fake):
        con.execute(f"SET {setting}")
        with pytest.raises(BudgetExceeded) as raised:
            con.execute(ALL)
        assert words in str(raised.value)
        assert "not begun" in str(raised.value)
        assert fake.calls == 0
        assert con.execute("SELECT calls, error FROM llm_queries()").fetchall() == [
            (0, f"BudgetExceeded: {raised.value}")
        ]


def test_remembered_answers_cost_nothing() -> None:
    with opened() as (con, fake):
        con.execute(f"{ALL} WHERE i < 60")
        con.execute("SET llm_max_calls = 40")
        assert len(con.execute(ALL).fetchall()) == 100
        assert fake.calls == 100
        con.execute("SET llm_max_calls = 0")
        assert len(con.execute(ALL).fetchall()) == 100


def test_the_least_that_a_plan_costs_is_never_more_than_it_makes(pair: Pair) -> None:
    """Else a statement would be refused that fits its budget."""
    pair.planned.execute("SET llm_max_calls = 1000000")
    for sql in STAGED[::4]:
        pair.planned_fake.calls = 0
        session = pair.planned._session
        settings = pair.planned.llm_settings
        with session._running(sql, settings) as run:
            planned = session._affordable(sql, {}, settings, run)
            estimator = Estimator(pair.planned._raw, pair.planned.llm_engine, settings, {}, None)
            certain = [each for each in estimator.stages(planned).values() if each.certain]
            least = sum(each.demand.calls for each in certain if each.demand)
            session._executed(planned, {}, settings, run)
        assert least <= pair.planned_fake.calls, sql


def test_a_budget_of_calls_is_kept_to_the_call_where_duckdb_makes_them() -> None:
    with opened(FakeProvider(latency=0.001), max_calls=30) as (con, fake):
        with pytest.raises(BudgetExceeded, match="stopped after 30 calls"):
            con.execute(SCALAR)
        assert fake.calls == 30
        con.execute("RESET llm_max_calls")
        con.execute(SCALAR)
        assert fake.calls == 100, "nothing is paid twice"


@pytest.mark.parametrize("sql", [f"CREATE TABLE c AS {ALL}", f"INSERT INTO t {ALL}"])
def test_a_statement_that_stores_rows_stores_none_when_it_is_stopped(sql: str) -> None:
    with opened(max_calls=30) as (con, fake):
        with pytest.raises(BudgetExceeded):
            con.execute(sql)
        assert fake.calls == 0
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(100,)]


def test_a_statement_that_was_stopped_says_what_finishing_costs_and_keeps_its_answers() -> None:
    sql = "SELECT i FROM t WHERE LLM_FILTER('x', v) LIMIT 90"
    with opened(max_calls=50, input_price=10, output_price=10) as (con, fake):
        with pytest.raises(BudgetExceeded) as raised:
            con.execute(sql)
        message = str(raised.value)
        assert "llm_max_calls = 50 is reached: stopped after 50 calls, 1," in message
        assert "questions of LLM_FILTER are left. What was answered is kept." in message
        assert "about 50 calls, 1,8" in message and "$0.0" in message
        assert fake.calls == 50
        con.execute("SET llm_max_calls = 100")
        con.execute(sql)
        assert fake.calls == 100


def test_a_budget_of_tokens_or_dollars_is_exceeded_by_the_calls_in_flight_at_most() -> None:
    for setting in ("llm_max_tokens = 1000", "llm_max_cost = 0.01"):
        with opened(on_budget="partial", input_price=10, output_price=10) as (con, fake):
            con.execute(f"SET {setting}")
            con.execute(ALL)
            stats = con.llm_engine.history[-1]
            assert stats.cost is not None
            assert 1000 <= stats.prompt_tokens + stats.completion_tokens <= 1000 + 4 * 60
            assert stats.undecided == 100 - fake.calls > 0


def test_dollars_are_not_limited_where_nobody_knows_the_price() -> None:
    with opened(max_cost=1) as (con, fake), pytest.raises(SettingError, match="llm_input_price"):
        con.execute(ALL)
    assert fake.calls == 0
    free = opened(max_cost=0, input_price=0, output_price=0)
    with free as (con, _), pytest.raises(BudgetExceeded, match="llm_max_cost = 0 is reached"):
        con.execute(ALL)


@pytest.mark.parametrize("setting", ["llm_timeout", "llm_connection_max_seconds"])
def test_a_statement_ends_when_its_time_is_over(setting: str) -> None:
    with opened(FakeProvider(latency=0.2), concurrency=1) as (con, fake):
        con.execute(f"SET {setting} = 0.7")
        started = time.monotonic()
        with pytest.raises(BudgetExceeded, match=f"{setting} = 0.7 is reached"):
            con.execute(ALL)
        assert time.monotonic() - started < 5
        assert 0 < fake.calls < 10
        assert fake.in_flight == 0
        answered = con.llm_engine.history[-1].calls
        con.execute(f"RESET {setting}")
        con.execute(f"{ALL} WHERE i < 4")
        assert fake.calls >= 4
        assert con.llm_engine.history[-1].cached <= answered


def test_the_connection_counts_what_its_cursors_spend() -> None:
    with opened(connection_max_calls=50) as (con, fake):
        con.execute(f"{ALL} WHERE i < 30")
        cursor = con.cursor()
        with pytest.raises(BudgetExceeded, match="of which 20 are left"):
            cursor.execute(ALL)
        cursor.execute(f"{ALL} WHERE i < 50")
        with pytest.raises(BudgetExceeded):
            con.execute(f"{ALL} WHERE i < 51")
        assert fake.calls == 50


def test_without_a_budget_nobody_waits_for_the_calls_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two statements that are out of budget would wait for each other for ever."""
    with opened(max_calls=20, on_budget="partial") as (con, fake):
        cache = con.llm_engine.answers(con.llm_settings)
        claim, others = cache.claim, object()

        def claim_after_others(question: Question, keys: Sequence[str], owner: object) -> Claimed:
            claim(question, keys[:1], others)
            return claim(question, keys, owner)

        monkeypatch.setattr(cache, "claim", claim_after_others)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(lambda: con.execute(ALL).fetchall())
            try:
                assert len(running.result(timeout=20)) == 100
            finally:
                con.interrupt()
        assert fake.calls == 20


def test_partial_gives_what_is_decided_and_records_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole: dict[int, str] = {}
    with opened() as (con, _):
        whole.update(con.execute(ALL).fetchall())
    with opened(max_calls=30, on_budget="partial") as (con, fake):
        with caplog.at_level(logging.WARNING, "quackllm"):
            rows = dict(con.execute(ALL).fetchall())
        decided = {i: answer for i, answer in rows.items() if answer is not None}
        assert (len(rows), len(decided), fake.calls) == (100, 30, 30)
        assert all(whole[i] == answer for i, answer in decided.items())
        assert "llm_max_calls = 30 is reached: 70 questions are undecided" in caplog.text
        left = con.execute(
            "SELECT cause, attempts, preview FROM llm_errors() ORDER BY preview"
        ).fetchall()
        assert len(left) == 70
        assert {(cause, attempts) for cause, attempts, _ in left} == {("budget", 0)}
        undecided = [i for i, answer in rows.items() if answer is None]
        assert sorted(p for *_, p in left) == sorted(f'{{"v":"row {i}"}}' for i in undecided)
        assert con.execute("SELECT failures, undecided, error FROM llm_queries()").fetchall() == [
            (0, 70, None)
        ]
        assert "70 undecided (llm_max_calls = 30" in con.llm_engine.history[-1].summary()
        con.execute("RESET llm_max_calls")
        assert dict(con.execute(ALL).fetchall()) == whole
        assert fake.calls == 100


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT i FROM t WHERE LLM_FILTER('x', v)", "absent"),
        ("SELECT i FROM t WHERE NOT LLM_FILTER('x', v)", "absent"),
        ("SELECT i, LLM_FILTER('x', v) FROM t", "null"),
        ("SELECT i FROM t WHERE LLM_FILTER('x', v) IS NULL", "present"),
        ("SELECT i, LLM('y', v) FROM t WHERE LLM_FILTER('x', v)", "absent"),
        ("SELECT i, CASE WHEN LLM_FILTER('x', v) THEN 1 ELSE 0 END FROM t", "else"),
    ],
)
def test_what_is_undecided_is_null_as_sql_has_it(sql: str, rows: str) -> None:
    with opened(max_calls=10, on_budget="partial") as (con, fake):
        found = con.execute(sql).fetchall()
        assert fake.calls <= 10
        if rows == "absent":
            assert len(found) <= 10
        elif rows == "null":
            assert sum(answer is None for _, answer in found) == 90
        elif rows == "present":
            assert len(found) == 90
        else:
            assert len(found) == 100, "ELSE is for NULL too: that is SQL's, not ours"


def test_a_call_may_be_content_with_part_where_the_others_are_not() -> None:
    sql = "SELECT LLM('x', v, on_budget := 'partial'), {} FROM t"
    with opened(max_calls=20) as (con, fake):
        con.execute(sql.format("i"))
        assert fake.calls == 20
        with pytest.raises(BudgetExceeded, match="at least 100 calls"):
            con.execute(sql.format("LLM('y', v)"))
        assert fake.calls == 20


def test_samples_for_the_order_of_predicates_count() -> None:
    sql = "SELECT i FROM big WHERE LLM_FILTER('x', v) AND LLM_FILTER('y', v)"
    with opened(max_calls=10) as (con, fake):
        con.execute("CREATE TABLE big AS SELECT i, 'r' || i AS v FROM range(1000) r(i)")
        with pytest.raises(BudgetExceeded, match="To finish"):
            con.execute(sql)
        assert fake.calls == 10
        con.execute("SET llm_on_budget = 'partial'")
        con.execute(sql)
        assert fake.calls == 20


def test_failed_calls_count_and_explain_does_not() -> None:
    with opened(FakeProvider(faults=[Fault(error=ServerFailed)]), max_calls=10) as (con, fake):
        con.execute(f"EXPLAIN {ALL}")
        con.execute("SET llm_on_budget = 'partial'")
        [(_, plan)] = con.execute(f"EXPLAIN ANALYZE {ALL}").fetchall()
        assert "90 undecided" in plan
        assert fake.calls == 10
        causes = con.execute("SELECT cause, count(*) FROM llm_errors() GROUP BY ALL").fetchall()
        assert dict(causes) == {"server error": 10, "budget": 90}


@pytest.mark.parametrize("sql", ["FROM seen", "SELECT * FROM said('x')"])
def test_a_view_and_a_macro_are_held_to_the_budget_of_the_statement(sql: str) -> None:
    with opened(max_calls=30, on_budget="partial") as (con, fake):
        con.execute("CREATE VIEW seen AS SELECT LLM('x', v) AS a FROM t")
        con.execute("CREATE MACRO said(p) AS TABLE SELECT LLM('x', v, p) AS a FROM t")
        rows = con.execute(sql).fetchall()
        assert len(rows) == 100
        assert fake.calls == 30


def test_within_a_transaction_a_stop_leaves_it_usable() -> None:
    with opened(max_calls=10) as (con, _):
        con.begin()
        con.execute("INSERT INTO t VALUES (1000, 'x')")
        with pytest.raises(BudgetExceeded):
            con.execute("SELECT i FROM t WHERE LLM_FILTER('x', v) LIMIT 90")
        con.commit()
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(101,)]


def test_accounts_are_not_opened_without_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting tuples twice is for those who set a budget."""

    def fail(*_: object) -> None:
        raise AssertionError("counted")

    monkeypatch.setattr(Accounts, "refuse_beyond", fail)
    with opened() as (con, _):
        con.execute(ALL)
    assert Settings().max_calls is None
