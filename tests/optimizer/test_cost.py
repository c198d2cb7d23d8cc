"""Promise: what a statement will cost is arithmetic on what is known, and nothing is made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from quackllm.optimizer.cost import (
    UNKNOWN_CONDITION,
    UNKNOWN_EQUALITY,
    Cost,
    Demand,
    Measured,
    Price,
    Speed,
    Spread,
    Timing,
    cost_at_most,
    cost_expected,
    fit_speed,
    probability,
    share_until,
    spread,
    total,
)
from quackllm.optimizer.sql import parse

MINI = Price(input=0.15, output=0.60, cached_input=0.075)
DEMAND = Demand(tuples=100, rows=400, remembered=20, tokens=8_000, reused=6_000)


def condition(sql: str) -> exp.Expr:
    found: exp.Expr = parse(f"SELECT {sql}").expressions[0]
    return found


# Dollars


def test_dollars_are_per_million_tokens_of_each_kind() -> None:
    assert MINI.dollars(1_000_000, 0, 0) == pytest.approx(0.15)
    assert MINI.dollars(1_000_000, 1_000_000, 0) == pytest.approx(0.075)
    assert MINI.dollars(0, 0, 1_000_000) == pytest.approx(0.60)
    assert MINI.dollars(2_000, 500, 100) == pytest.approx(
        (1_500 * 0.15 + 500 * 0.075 + 100 * 0.60) / 1e6
    )


def test_cached_tokens_cost_as_much_as_others_when_no_price_is_given_for_them() -> None:
    price = Price(input=1.0, output=2.0)
    assert price.dollars(100, 90, 0) == price.dollars(100, 0, 0)


def test_without_a_price_there_are_no_dollars() -> None:
    assert cost_at_most(DEMAND, 10, Measured(), None).dollars is None
    assert cost_expected(DEMAND, 1.0, 10, Measured(), None).dollars is None
    with_price = cost_expected(DEMAND, 1.0, 10, Measured(), MINI)
    assert total([with_price, Cost(1)]).dollars is None, "a part without a price has no sum"


def test_a_model_that_is_said_to_be_free_costs_nothing() -> None:
    assert cost_expected(DEMAND, 1.0, 10, Measured(), Price(0, 0)).dollars == 0


# Calls and tokens


def test_at_most_is_every_call_not_remembered_with_nothing_reused_and_full_answers() -> None:
    cost = cost_at_most(DEMAND, 21, Measured(), MINI)
    assert (cost.calls, cost.tokens_in, cost.tokens_cached, cost.tokens_out) == (
        80,
        8_000,
        None,
        80 * 21,
    )
    assert cost.dollars == pytest.approx((8_000 * 0.15 + 80 * 21 * 0.60) / 1e6)


def test_expected_takes_the_share_of_calls_and_what_was_measured() -> None:
    measured = Measured(prompt=1.25, reuse=0.5, output=2.0, calls=300, exact=True)
    cost = cost_expected(DEMAND, 0.5, 21, measured, MINI)
    assert cost.calls == 40
    assert cost.tokens_in == 5_000  # half of 8,000, 1.25 of the model's tokens each
    assert cost.tokens_cached == 1_875  # half of 6,000, 1.25 each, half of which came true
    assert cost.tokens_out == 80


def test_texts_that_are_not_known_have_no_tokens_and_no_price() -> None:
    unknown = Demand(tuples=4, rows=4)
    cost = cost_expected(unknown, 1.0, 10, Measured(), MINI)
    assert (cost.calls, cost.tokens_in, cost.dollars) == (4, None, None)
    assert cost_at_most(unknown, 10, Measured(), MINI).tokens_out == 40


@given(
    share=st.floats(0, 1),
    tuples=st.integers(0, 10_000),
    tokens=st.integers(0, 10**7),
    reused=st.floats(0, 1),
    output=st.none() | st.floats(0, 21),
    reuse=st.none() | st.floats(0, 3),
)
@settings(deadline=None)
def test_expected_is_never_more_than_at_most(
    share: float, tuples: int, tokens: int, reused: float, output: float | None, reuse: float | None
) -> None:
    demand = Demand(tuples=tuples, rows=tuples, tokens=tokens, reused=int(tokens * reused))
    measured = Measured(output=output, reuse=reuse)
    most = cost_at_most(demand, 21, measured, MINI)
    cost = cost_expected(demand, share, 21, measured, MINI)
    assert cost.tokens_in is not None and most.tokens_in is not None
    assert cost.tokens_out is not None and most.tokens_out is not None
    assert cost.calls <= most.calls
    assert cost.tokens_in <= most.tokens_in
    assert cost.tokens_out <= most.tokens_out
    assert (cost.tokens_cached or 0) <= cost.tokens_in
    assert (cost.dollars or 0) <= (most.dollars or 0) + 1e-12


def test_costs_add_up() -> None:
    one = Cost(2, 10, 4, 6, 0.5, 1.0)
    assert total([one, one]) == Cost(4, 20, 8, 12, 1.0, 2.0)
    assert total([one, replace(one, tokens_cached=None)]).tokens_cached == 4
    assert total([one, replace(one, tokens_in=None)]).tokens_in is None


# Seconds


def test_speeds_that_explain_the_timings_are_found() -> None:
    real = Speed(per_computed=0.003, per_written=0.01)
    timings = [
        Timing(computed, written, real.seconds(computed, 0, written))
        for computed, written in [(1_000, 10), (200, 400), (5_000, 900)]
    ]
    found = fit_speed(timings)
    assert found is not None
    assert found.per_computed == pytest.approx(0.003)
    assert found.per_written == pytest.approx(0.01)


def test_one_timing_gives_one_speed_for_all_tokens() -> None:
    assert fit_speed([Timing(90, 10, 2.0)]) == Speed(0.02, 0.02)


def test_cached_tokens_take_no_time_unless_they_were_timed_with_the_others() -> None:
    assert Speed(0.01, 0.1).seconds(100, 60, 1) == pytest.approx(0.5)
    assert Speed(0.01, 0.1, with_cached=True).seconds(100, 60, 1) == pytest.approx(1.1)


def test_no_timing_gives_no_seconds() -> None:
    assert fit_speed([]) is None
    assert fit_speed([Timing(0, 0, 1.0)]) is None
    assert cost_expected(DEMAND, 1.0, 10, Measured(), MINI).seconds is None


@given(
    st.lists(
        st.builds(Timing, st.integers(0, 10**6), st.integers(0, 10**5), st.floats(0, 1e3)),
        max_size=6,
    )
)
@settings(deadline=None)
def test_a_speed_is_never_negative(timings: list[Timing]) -> None:
    speed = fit_speed(timings)
    assert speed is None or (speed.per_computed >= 0 and speed.per_written >= 0)


# Selectivity

ANSWERS = {
    "f": spread(["true", "false"], {"true": 8, "false": 0}),
    "g": spread(["true", "false"], {}),
    "c": spread(["a", "b", "d", "e"], {}),
    "s": Spread({}),
}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("f", 0.9),
        ("g", 0.5),
        ("NOT f", 0.1),
        ("f AND g", 0.45),
        ("(f) OR g", 0.95),
        ("NOT (f) IS TRUE", 0.1),
        ("f IS FALSE", 0.1),
        ("f IS NULL", 0.0),
        ("c = 'a'", 0.25),
        ("'a' = (c)", 0.25),
        ("c <> 'a'", 0.75),
        ("c = 'no label'", 0.0),
        ("c IN ('a', 'b')", 0.5),
        ("c = x", 0.25),
        ("s > 0.5", UNKNOWN_CONDITION),
        ("s = 3", UNKNOWN_EQUALITY),
        ("x > 3 OR f", 1 - (1 - UNKNOWN_CONDITION) * 0.1),
        ("true AND f", 0.9),
    ],
)
def test_share_of_rows_that_pass(sql: str, expected: float) -> None:
    assert probability(condition(sql), ANSWERS) == pytest.approx(expected)


def test_nothing_is_certain_after_a_few_answers() -> None:
    few = spread(["true", "false"], {"true": 3})
    assert few.seen == 3
    assert 0 < few.shares["false"] < 0.5
    assert spread(["true", "false"], {}).seen == 0


def test_early_stop_asks_what_the_wanted_rows_need() -> None:
    # 10 rows at 10 % need 100 tuples.
    assert share_until(10, 0.1, tuples=2_000, rows=2_000, first=16) == 100 / 2_000
    # Each tuple stands in four rows: 25 tuples.
    assert share_until(10, 0.1, tuples=500, rows=2_000, first=16) == 25 / 500
    assert share_until(1, 0.5, tuples=500, rows=500, first=16) == 16 / 500
    assert share_until(10, 0.0, tuples=500, rows=500, first=16) == 1
    assert share_until(10, 0.1, tuples=8, rows=8, first=16) == 1
    assert share_until(10, 0.1, tuples=0, rows=0, first=16) == 1
