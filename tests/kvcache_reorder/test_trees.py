"""Trees keep exact accounts, and leaving, partial prefixes and roll-outs each win somewhere."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.kvcache_reorder._nodes import splits
from quackllm.kvcache_reorder.encode import Encoded
from quackllm.kvcache_reorder.prefix import sorted_prefixes
from quackllm.kvcache_reorder.search import Budget, Effort, grow_by_rollouts
from quackllm.kvcache_reorder.tree import Growth, Policy, Reuse, roots
from tests.kvcache_reorder.naive import (
    Table,
    common,
    encoded,
    random_table,
    reviews,
    tables,
)

POLICIES = (
    Policy(0.0),
    Policy(0.5, leave=True),
    Policy(1.0, partial=True),
    Policy(0.25, partial=True, leave=True),
)


def same(prefix: np.ndarray) -> np.ndarray:
    return prefix


def blocks(prefix: np.ndarray) -> np.ndarray:
    return prefix // 4 * 4


def grown(table: Encoded, policies: Sequence[Policy], reuse: Reuse) -> Growth:
    growth = Growth(table, reuse, policies, table.rows * len(policies))
    growth.run(roots(table, len(policies)))
    return growth


@given(tables(most_rows=20).filter(lambda t: len(t["c0"]) > 1), st.sampled_from((same, blocks)))
@settings(max_examples=50, deadline=None)
def test_the_account_never_promises_more_than_the_exact_score(table: Table, reuse: Reuse) -> None:
    data = encoded(table)
    growth = grown(data, POLICIES, reuse)
    # An empty value takes no room: rows may go on sharing behind it in other fields.
    filled = all(value for column in table.values() for value in column)
    for index, of in enumerate(growth.layout.reshape(len(POLICIES), -1)):
        prefix = sorted_prefixes(data, growth.orders(), of)[1]
        exact = float(reuse(prefix[1:]).sum())
        assert growth.worth[index] <= exact
        # Only rows that left and happen to meet others again are worth more than told.
        if filled and not POLICIES[index].leave:
            assert growth.worth[index] == exact


@given(tables(most_rows=20).filter(lambda t: len(t["c0"]) > 1))
@settings(max_examples=40, deadline=None)
def test_every_row_gets_every_field(table: Table) -> None:
    data = encoded(table)
    growth = grown(data, POLICIES, same)
    assert (np.sort(growth.orders(), axis=1) == np.arange(data.columns)).all()
    # Order 0 is only for rows that pins set apart.
    assert (growth.layout > 0).all()


def worth(table: Table, policy: Policy) -> float:
    return float(grown(encoded(table), [policy], same).worth[0])


def test_constant_columns_and_dependent_ones_go_to_the_prefix() -> None:
    table: Table = {
        "id": ["1", "2", "3", "4"],
        "same": ["always"] * 4,
        "city": ["Rome", "Oslo", "Rome", "Oslo"],
        "land": ["Italy", "Norway", "Italy", "Norway"],
    }
    data = encoded(table)
    growth = grown(data, [Policy(0.0)], same)
    orders = growth.orders()[growth.layout]
    assert (orders[:, 0] == 1).all()
    assert (orders[:, 3] == 0).all()
    assert growth.worth[0] == 3 * len("always") + len("RomeItaly") + len("OsloNorway")


def test_rows_that_leave_share_other_fields() -> None:
    table: Table = {
        "a": ["xxxxxxxx", "xxxxxxxx", "k", "l", "m", "n"],
        "b": ["1", "2", "yyy", "yyy", "zzz", "zzz"],
    }
    assert worth(table, Policy(0.0)) == 8
    assert worth(table, Policy(0.0, leave=True)) == 8 + 3 + 3


def test_rows_that_find_nothing_elsewhere_return() -> None:
    table: Table = {
        "a": ["pathpath1", "pathpath1", "pathpath2", "pathpath3"],
        "b": ["k", "l", "m", "m"],
    }
    # Elsewhere they would share "m"; at home "pathpath", twice.
    assert worth(table, Policy(0.0, leave=True)) == 9 + 8 + 8


def test_partial_prefixes_count_where_a_policy_says_so() -> None:
    table: Table = {
        "path": ["/long/path/1", "/long/path/1", "/long/path/2", "/long/path/3"],
        "kind": ["a", "q" * 20, "q" * 20, "z"],
    }
    # Equal values are 12 characters of "path" and 20 of "kind"; with parts, "path" has 34.
    assert worth(table, Policy(0.0)) == 20 + len("/long/path/")
    assert worth(table, Policy(0.0, partial=True)) == 12 + 2 * len("/long/path/")


def test_roll_outs_see_what_a_greedy_choice_spoils() -> None:
    # "wide" pays 20 * 10 at once but cuts "left" and "right", which pay 36 * 5 each.
    table: Table = {
        "wide": [chr(ord("A") + i % 20) * 10 for i in range(40)],
        "left": ["abcd"[i * 7 % 40 // 10] * 5 for i in range(40)],
        "right": ["efgh"[i * 7 % 40 // 10] * 5 for i in range(40)],
    }
    data = encoded(table)
    greedy = grown(data, [Policy(0.0)], same).worth[0]
    growth = Growth(data, same, [Policy(0.0)], data.rows)
    budget = Budget(1e9)
    grow_by_rollouts(growth, roots(data, 1), [Policy(0.0)], Effort(width=3), budget)
    assert greedy < 2 * 36 * 5 <= growth.worth[0]
    assert budget.cells < 1e9


def test_roll_outs_without_budget_are_the_greedy_tree() -> None:
    data = encoded(reviews(200, seed=4))
    growth = Growth(data, same, [Policy(0.5)], data.rows)
    grow_by_rollouts(growth, roots(data, 1), [Policy(0.5)], Effort(), Budget(0))
    greedy = grown(data, [Policy(0.5)], same)
    assert growth.worth[0] == greedy.worth[0]
    assert (growth.orders()[growth.layout] == greedy.orders()[greedy.layout]).all()


@given(tables(most_rows=15).filter(lambda t: len(t["c0"]) > 1), st.data())
@settings(max_examples=40, deadline=None)
def test_splits_are_what_counting_finds(table: Table, data: st.DataObject) -> None:
    coded = encoded(table)
    n = coded.rows
    cut = data.draw(st.integers(1, n - 1))
    sizes = np.array([cut, n - cut])
    every = np.ones((2, coded.columns), bool)
    result = splits(coded, np.arange(n), sizes, every, with_partial=True)
    for node, rows in enumerate((range(cut), range(cut, n))):
        for column, texts in enumerate(table.values()):
            values = sorted((texts[r] or "").encode() for r in rows)
            own = sorted({value.decode() for value in values})
            assert result.distinct[node, column] == len(own)
            repeated = sum(len(v.decode()) for v in values) - sum(map(len, own))
            assert result.equal[node, column] == repeated
            shared = sum(common(a, b) for a, b in pairwise(own))
            assert result.partial[node, column] == shared


@pytest.mark.parametrize("cells", [1, 3, 1 << 18])
def test_splits_do_not_depend_on_the_size_of_chunks(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(random_table(50, 4, seed=2))
    sizes, every = np.array([20, 30]), np.ones((2, 4), bool)
    whole = splits(data, np.arange(50), sizes, every, with_partial=True)
    monkeypatch.setattr("quackllm.kvcache_reorder._nodes._CELLS", cells)
    parts = splits(data, np.arange(50), sizes, every, with_partial=True)
    assert (parts.equal == whole.equal).all()
    assert (parts.partial == whole.partial).all()
    assert (parts.distinct == whole.distinct).all()
