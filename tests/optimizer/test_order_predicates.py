"""Promise: predicates are asked in the order that costs the least, learned while running."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Request
from quackllm.optimizer.catalog import PredicateStatistics
from quackllm.optimizer.rules.order_predicates import cheapest_order, expected_tokens
from quackllm.optimizer.sampling import SAMPLE_ROWS
from quackllm.testing import FakeProvider

ROWS = 2000
TABLE = f"CREATE TABLE t AS SELECT 'a' || i AS x, 'b' || i AS y FROM range({ROWS}) r(i)"
BOTH = "SELECT * FROM t WHERE LLM_FILTER('broad', x) AND LLM_FILTER('narrow', y)"


def answer(request: Request) -> str:
    """'broad' accepts nine rows in ten, 'narrow' one in ten, each by its own hash."""
    digest = hashlib.md5((request.instruction + request.fields).encode()).digest()
    share = 0.9 if "broad" in request.instruction else 0.1
    return "true" if int.from_bytes(digest[:4]) < share * 2**32 else "false"


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(answer=answer)


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute(
            f"CREATE TABLE t AS SELECT 'a' || i AS x, 'b' || i AS y FROM range({ROWS}) r(i)"
        )
        yield connection


def test_selective_predicate_comes_first_whatever_is_written_first(
    con: Connection, fake: FakeProvider
) -> None:
    rows = con.execute(BOTH).fetchall()
    assert rows
    # The best order asks narrow of every row and broad of those that narrow accepted.
    accepted = con.execute("SELECT count(*) FROM t WHERE LLM_FILTER('narrow', y)").fetchone()
    assert accepted is not None
    assert fake.calls <= 1.05 * (ROWS + accepted[0])


def test_learned_order_makes_fewer_calls_and_the_same_rows() -> None:
    calls = {}
    for rules in ("", "order_predicates"):
        provider = FakeProvider(answer=answer)
        with quackllm.connect(provider=provider, progress=False, disabled_rules=rules) as con:
            con.execute(TABLE)
            con.execute(BOTH)
            rows = con.fetchall()
            calls[rules] = (provider.calls, sorted(rows))
    assert calls[""][1] == calls["order_predicates"][1]
    assert calls[""][0] < 0.65 * calls["order_predicates"][0]


def test_a_sample_of_the_best_order_costs_nothing(con: Connection, fake: FakeProvider) -> None:
    # About one column, or DuckDB's estimate of distinct values would say what is asked first.
    best = "SELECT * FROM t WHERE LLM_FILTER('narrow', x) AND LLM_FILTER('broader', x)"
    con.execute("SET llm_cache = false")
    con.execute("SET llm_disabled_rules = 'order_predicates'")
    con.execute(best)
    without = fake.calls
    con.execute("RESET llm_disabled_rules")
    con.execute(best)
    assert fake.calls - without == without


def test_a_sample_of_another_order_costs_no_more_than_its_size(
    con: Connection, fake: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    con.execute(BOTH)
    broad = fake.calls - ROWS  # narrow is asked of every row
    accepted = con.execute("SELECT count(*) FROM t WHERE LLM_FILTER('narrow', y)").fetchone()
    assert accepted is not None
    assert accepted[0] < broad <= accepted[0] + SAMPLE_ROWS
    assert not caplog.records, "a sample is planned like any statement, without a complaint"


def test_a_question_about_a_film_comes_before_one_about_each_review() -> None:
    """Film: 100 tuples, accepts half. Review: 3,000 tuples, 30 of each film, rejects more."""
    film, review = 0, 1
    known = PredicateStatistics(
        tokens=(50.0, 40.0),
        tuples=(100.0, 3_000.0),
        together={(film, review): 3_000.0},
        selectivities=(0.5, 0.2),
    )
    assert cheapest_order(known) == (film, review)
    assert expected_tokens((film, review), known) == pytest.approx(100 * 50 + 1_500 * 40)
    left = 1 - (1 - 0.2) ** 30  # of the films, those with an accepted review
    assert expected_tokens((review, film), known) == pytest.approx(3_000 * 40 + left * 100 * 50)


def test_a_small_difference_leaves_the_order_as_written() -> None:
    known = PredicateStatistics((10.0, 10.0), (101.0, 100.0), {(0, 1): 101.0}, (0.5, 0.5))
    assert cheapest_order(known) == (0, 1)


def test_a_guess_does_not_ask_more_for_the_sake_of_a_few_tokens() -> None:
    facts = ((30.0, 25.0), (100.0, 100.0), {(0, 1): 100.0}, (0.5, 0.5))
    assert cheapest_order(PredicateStatistics(*facts)) == (0, 1)
    assert cheapest_order(PredicateStatistics(*facts, sampled=True)) == (1, 0)


def test_tuples_are_counted_where_no_sample_is_taken(fake: FakeProvider) -> None:
    """40 reviews of 4 films: the film is asked about first, and each only once."""
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(
            "CREATE TABLE r AS SELECT i, i % 4 AS film, 'r' || i AS body FROM range(40) r(i)"
        )
        con.execute(
            "SELECT i FROM r WHERE LLM_FILTER('broad', body) AND LLM_FILTER('narrow', film)"
        )
        first = [request.instruction for request in fake.requests][:4]
    assert all("narrow" in instruction for instruction in first)


def test_small_tables_are_not_sampled(con: Connection, fake: FakeProvider) -> None:
    """One is asked of every row, the other of those that it accepted: nothing in vain."""
    con.execute(BOTH.replace("FROM t", "FROM (SELECT * FROM t LIMIT 40)"))
    asked = {
        word: [request for request in fake.requests if word in request.instruction]
        for word in ("broad", "narrow")
    }
    # Which is first depends on DuckDB's estimate of how many texts there are.
    second, first = sorted(asked.values(), key=len)
    assert len(first) == 40
    assert len(second) == sum(answer(request) == "true" for request in first)


def test_explain_does_not_sample(con: Connection, fake: FakeProvider) -> None:
    con.execute("EXPLAIN " + BOTH)
    assert fake.calls == 0


def test_explain_analyze_names_the_rule(con: Connection) -> None:
    row = con.execute("EXPLAIN ANALYZE " + BOTH).fetchone()
    assert row is not None
    assert "order_predicates" in row[1]
