"""Promise 2 where one batch is not enough: more tuples than an early stop's first rounds."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.engine.conftest import close_pair, open_pair

TABLES = """
CREATE TABLE t AS SELECT i, 'a' || (hash(i) % 300) AS x, 'b' || (hash(i + 1) % 90) AS z,
    (hash(i * 7) % 50)::INTEGER AS y FROM range(1500) r(i);
CREATE TABLE u AS SELECT i AS k, 'c' || (i % 60) AS w, i % 7 AS g FROM range(200) r(i);
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
    # conditions that reject the rows which an outer join adds, or that stand before its ON
    "SELECT i FROM t LEFT JOIN u ON t.y = u.k AND LLM_FILTER('p', x, w) WHERE LLM_FILTER('q', w)",
    "SELECT i FROM t LEFT JOIN u ON t.y = u.k AND LLM_FILTER('p', x, w) WHERE u.g = 3",
    "SELECT t.i FROM t FULL JOIN u ON t.y = u.k AND LLM_FILTER('q', x, w) WHERE u.g = 3 AND t.y > 3",
    "SELECT t.i, u.k FROM t FULL JOIN u ON t.y = u.k AND LLM_FILTER('q', x, w) WHERE t.y = 3 OR t.y = 5",
    "SELECT t.i, u.k FROM t LEFT JOIN u ON t.y = u.k AND LLM_FILTER('q', x, w) "
    "LEFT JOIN t t2 ON t2.i = u.k WHERE t2.y = 3",
    "SELECT t.i, u.k FROM t LEFT JOIN u ON t.y = u.k AND LLM_FILTER('q', x, w) "
    "FULL JOIN t t2 ON t2.i = u.k WHERE u.g = 3",
    "SELECT i FROM t LEFT JOIN u ON t.i = u.k AND LLM_FILTER('p', x) WHERE LLM_FILTER('q', z)",
    "SELECT * FROM t AS a LEFT JOIN u ON a.i = u.k AND LLM_FILTER('p', x) "
    "WHERE LLM_FILTER('q', a.z) AND u.k IS NULL",
    "SELECT i FROM t LEFT JOIN u ON t.i = u.k AND LLM_FILTER('p', x) AND LLM_FILTER('q', w)",
    # keys of the other side of an equality
    "WITH c AS (SELECT i, y, x FROM t WHERE LLM_FILTER('p', x)) SELECT c.i, u.w FROM c "
    "JOIN u ON c.y = u.k WHERE u.g = 3",
    "WITH c AS (SELECT i, y AS k, x, LLM('p', x) AS l FROM t) SELECT c.i, u.w, l FROM u "
    "LEFT JOIN c USING (k) WHERE u.g = 3",
    "WITH c AS (SELECT y, count(*) AS n FROM t WHERE LLM_FILTER('p', x) GROUP BY y) "
    "SELECT * FROM c JOIN u ON c.y = u.k WHERE u.g = 3",
    "SELECT * FROM (SELECT DISTINCT y, LLM('p', x) l FROM t) c, u, (SELECT 3 AS g) h "
    "WHERE c.y = u.k AND u.g = h.g",
    "SELECT i FROM t WHERE y IN (SELECT k FROM u WHERE LLM_FILTER('q', w)) AND y < 5",
    "SELECT i FROM t WHERE y NOT IN (SELECT nullif(k, 7) FROM u WHERE LLM_FILTER('q', w)) AND y < 5",
    "SELECT a.* FROM t AS a SEMI JOIN u ON a.i = u.k AND LLM_FILTER('p', x) WHERE LLM_FILTER('q', z)",
    "WITH c AS (SELECT y, LLM('p', z) AS l FROM t WHERE i < 99) SELECT c.l, a.k FROM c "
    "POSITIONAL JOIN u a JOIN u b ON c.y = b.k WHERE b.g = 3",
    "SELECT y FROM t WHERE i % 5 > 0 GROUP BY y HAVING EXISTS (SELECT 1 FROM u "
    "WHERE u.k = max(t.y) AND LLM_FILTER('q', u.w))",
    "WITH c AS (SELECT i, y, x FROM t WHERE LLM_FILTER('p', x)), d AS (SELECT * FROM u "
    "WHERE g = 3 AND LLM_FILTER('q', w)) SELECT c.i, d.w FROM c JOIN d ON c.y = d.k",
    "SELECT c.i, d.l FROM (SELECT i, y, x FROM t WHERE LLM_FILTER('p', x)) c JOIN (SELECT "
    "LLM('q', w) AS l, k FROM u WHERE g = 3) d ON c.y = d.k AND d.l > 'answer 6'",
    "SELECT d.l, top.k FROM (SELECT y, LLM('p', z) AS l FROM t WHERE LLM_FILTER('f', x)) d "
    "JOIN (SELECT k, w FROM u ORDER BY g, k LIMIT 9) top ON d.y = top.k",
    # free operands and operands with fewer tuples first
    "SELECT t.i FROM t JOIN u ON t.y = u.k WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', w)",
    "SELECT i FROM t WHERE LLM_FILTER('p', x) OR y < 30",
    "SELECT i FROM t WHERE LLM_FILTER('p', x) OR true",
    "SELECT LLM_FILTER('q', z) AND (LLM_FILTER('p', x) OR y < 30 OR LLM_FILTER('p', z)) "
    "AND NOT (LLM_FILTER('p', z) AND (y > 3 OR y < 1)) FROM t",
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
