"""Promise 2 where one batch is not enough: more tuples than an early stop's first rounds."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.engine.conftest import close_pair, open_pair

TABLES = """
CREATE TABLE t AS SELECT i, 'a' || (hash(i) % 300) AS x, 'b' || (hash(i + 1) % 90) AS z,
    (hash(i * 7) % 50)::INTEGER AS y FROM range(1500) r(i);
CREATE TABLE u AS SELECT i AS k, 'c' || (i % 60) AS w FROM range(200) r(i);
"""
STATEMENTS = [
    "SELECT i FROM t WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', z)",
    "SELECT i, LLM('w', x, z) FROM t WHERE LLM_FILTER('p', x) OR (y > 10 AND LLM_FILTER('q', z))",
    "SELECT y, count(*), round(avg(LLM_SCORE('s', x)), 6) FROM t WHERE LLM_FILTER('p', z) GROUP BY y",
    "SELECT CASE WHEN LLM_FILTER('p', x) THEN LLM('a', z) ELSE LLM('b', z) END AS c, count(*) "
    "FROM t GROUP BY 1",
    "SELECT i FROM t WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', z) ORDER BY y, i LIMIT 60",
    "SELECT i, LLM('w', z) FROM t WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', z) "
    "ORDER BY y DESC, i LIMIT 60 OFFSET 5",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_larger_table_equals_naive_plan(sql: str) -> None:
    pair = open_pair(TABLES)
    try:
        rows, types = pair.run_planned(sql)
        naive_rows, naive_types = pair.run_naive(sql)
        assert (Counter(map(repr, rows)), types) == (Counter(map(repr, naive_rows)), naive_types)
        assert pair.planned_fake.calls <= pair.naive_fake.calls
    finally:
        close_pair(pair)
