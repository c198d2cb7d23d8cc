"""The fit that says where the time of the LLM-SQL queries goes."""

from __future__ import annotations

import pytest

from benchmarks.llm_sql.cost import fitted
from benchmarks.llm_sql.variants import Measured


def a_run(fresh: int, written: int, calls: int, seconds: float) -> Measured:
    return Measured(seconds, 0.1, calls, fresh + 100, 100, written, 0, [])


RUNS = [(20_000, 120, 120), (8_000, 120, 120), (9_000, 480, 40), (3_000, 900, 80), (9_000, 60, 300)]


def test_rates_of_a_server_are_found_again() -> None:
    runs = [a_run(f, w, c, 0.001 * f + 0.01 * w + 0.005 * c) for f, w, c in RUNS]
    rates = fitted(runs)
    assert rates is not None
    assert (rates.prefill, rates.decode, rates.call) == pytest.approx((0.001, 0.01, 0.005))
    assert sum(rates.parts(runs[0])) == pytest.approx(runs[0].seconds)
    assert rates.error == pytest.approx(0, abs=1e-9)


def test_nothing_takes_less_than_no_time() -> None:
    runs = [a_run(f, w, c, 0.001 * f - 0.002 * c + 1) for f, w, c in RUNS]
    rates = fitted(runs)
    assert rates is not None
    assert min(rates.prefill, rates.decode, rates.call) >= 0


def test_too_few_runs_are_not_fitted() -> None:
    assert fitted([a_run(1, 1, 1, 1.0)] * 3) is None
