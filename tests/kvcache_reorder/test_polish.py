"""Ruin and recreate never loses, keeps every promise of a layout, and finds what trees cannot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.kvcache_reorder import make_objective
from quackllm.kvcache_reorder.baselines import Layout, fixed, original, pinned_first
from quackllm.kvcache_reorder.encode import Encoded
from quackllm.kvcache_reorder.objective import Objective
from quackllm.kvcache_reorder.polish import insertion_cells, polish
from quackllm.kvcache_reorder.portfolio import find_order
from quackllm.kvcache_reorder.prefix import sorted_prefixes
from quackllm.kvcache_reorder.search import Budget
from tests.kvcache_reorder.naive import Table, encoded, random_table, reviews, tables


def worth(table: Encoded, objective: Objective, layout: Layout) -> float:
    return float(objective.reuse(sorted_prefixes(table, layout.orders, layout.of)[1][1:]).sum())


@given(
    tables(most_rows=25),
    st.sampled_from(("characters", "squared_characters", "blocks")),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_polishing_never_loses_and_keeps_every_field(
    table: Table, name: object, pinned: bool
) -> None:
    objective = make_objective(name, chars_per_token=1)  # type: ignore[arg-type]
    data = encoded(table, objective.measure)
    pins = [0] if pinned else []
    before = pinned_first(fixed(data), np.array(pins, np.int64))
    after = polish(data, objective.reuse, before, Budget(1e5), pins)
    assert worth(data, objective, after) >= worth(data, objective, before)
    assert (np.sort(after.orders, axis=1) == np.arange(data.columns)).all()
    assert after.of.shape == (data.rows,)
    if pinned:
        assert (after.orders[after.of, 0] == 0).all()


def test_rows_move_to_where_they_share_most() -> None:
    # As given nothing is shared but "same"; each row has a partner under another column.
    table: Table = {
        "id": [str(i) for i in range(20)],
        "a": [f"long value {i // 2}" if i % 4 < 2 else f"x{i}" for i in range(20)],
        "b": [f"long value {i // 2}" if i % 4 >= 2 else f"y{i}" for i in range(20)],
    }
    objective = make_objective("characters")
    data = encoded(table)
    after = polish(data, objective.reuse, original(data), Budget(2e6))
    # Ten pairs of equal values, and "long value " between pairs of one column.
    assert worth(data, objective, after) >= 10 * len("long value 0") + 8 * len("long value ")


def test_polishing_without_budget_changes_nothing() -> None:
    data = encoded(random_table(30, 4, seed=1))
    objective = make_objective("characters")
    after = polish(data, objective.reuse, original(data), Budget(0))
    assert (after.orders[after.of] == np.arange(4)).all()


def test_polishing_is_the_same_every_time_and_stops_with_the_budget() -> None:
    data = encoded(reviews(200, seed=6))
    objective = make_objective("characters")
    budget = Budget(1e6)
    once = polish(data, objective.reuse, fixed(data), budget)
    again = polish(data, objective.reuse, fixed(data), Budget(1e6))
    assert (once.orders == again.orders).all()
    assert -20 * insertion_cells(data) < budget.cells <= 0


@pytest.mark.parametrize("name", ["characters", "blocks"])
def test_the_portfolio_polishes_small_tables(name: object) -> None:
    objective = make_objective(name)  # type: ignore[arg-type]
    small = find_order(encoded(random_table(300, 6, seed=3), objective.measure), objective)
    large = find_order(encoded(random_table(1500, 6, seed=3), objective.measure), objective)
    assert small.algorithm.endswith(", polished")
    assert not large.algorithm.endswith(", polished")
