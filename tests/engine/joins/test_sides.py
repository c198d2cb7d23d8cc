"""A join that asks some pairs only draws the same ones whenever it runs."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from quackllm.engine.joins.sides import read_pairs
from quackllm.optimizer.plan import Strategy
from quackllm.optimizer.program import PairSearch

SEARCH = PairSearch(
    Strategy("block", (0,), (1,)),
    "SELECT '\"left ' || i || '\"' AS c0, hash(i) AS c1 FROM range(7) r(i)",
    "SELECT '\"right ' || i || '\"' AS c0, hash(i + 100) AS c1 FROM range(5) r(i)",
    "SELECT hash(i) AS c0, hash(j + 100) AS c1 FROM range(7) r(i), range(5) s(j)",
)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_rows_come_makes_no_difference(seed: int) -> None:
    random = np.random.default_rng(seed)
    with duckdb.connect() as connection:

        def fetch(sql: str) -> pa.Table:
            return connection.sql(sql).to_arrow_table()

        def shuffled(sql: str) -> pa.Table:
            rows = fetch(sql)
            return rows.take(pa.array(random.permutation(rows.num_rows)))

        expected = read_pairs(SEARCH, fetch, 1_000)
        found = read_pairs(SEARCH, shuffled, 1_000)
        assert expected is not None and found is not None
        assert found.left == expected.left and found.right == expected.right
        assert found.at_left.tolist() == expected.at_left.tolist()
        assert found.at_right.tolist() == expected.at_right.tolist()
        assert len(found) == 35
