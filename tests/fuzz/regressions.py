"""Statements on which the planner was once wrong, as small as they get.

Each is run as a test by test_fuzz.py. A new one comes from a report of
`python -m tests.fuzz.run`, together with the repair.
"""

from __future__ import annotations

from tests.fuzz.cases import BOOLEAN, DOUBLE, INTEGER, TEXTS, VARCHAR, Case, Column, Table, TableUse

T1 = Table(
    "t1",
    (Column("a", VARCHAR), Column("b", INTEGER), Column("c", DOUBLE), Column("l", TEXTS)),
    (
        ("'x'", "1", "0.5", "['x']"),
        ("'y'", "2", "1.5", "[]"),
        ("NULL", "NULL", "NULL", "NULL"),
        ("'x'", "3", "NULL", "['y', NULL]"),
    ),
)
T2 = Table(
    "t2",
    (Column("a", VARCHAR), Column("b", INTEGER), Column("d", BOOLEAN)),
    (("'x'", "1", "true"), ("'z'", "NULL", "NULL")),
)


def _case(sql: str, tables: tuple[Table, ...] = (T1, T2), **judged_by: object) -> Case:
    return Case(tables, sql, **judged_by)  # type: ignore[arg-type]


REGRESSIONS: tuple[Case, ...] = (
    *(
        _case(f"SELECT r + 1 AS g, count(*) AS n FROM {rows} WHERE b > 9 AND z > '' GROUP BY ALL")
        for rows in (
            "(SELECT 0 AS r, b, LLM('p', a) AS z FROM t1) s",
            "t1, LATERAL (SELECT 0 AS r, LLM('p', t1.a) AS z) s",
        )
    ),
    _case("SELECT -b AS b, a, LLM('q', c) AS r FROM t1 ORDER BY (1), 2, c LIMIT 1", ordered=(0, 1)),
    *(  # a view is stored with COLUMNS(*)
        _case(f"SELECT LLM('q', t1.b) AS r FROM t1, t2 WHERE t1.b > 0 ORDER BY {all_} DESC LIMIT 1")
        for all_ in ("ALL", "COLUMNS(*)")
    ),
    _case(
        "SELECT -b AS b, a FROM t1 WHERE LLM_FILTER('q', c) IS NULL ORDER BY (b), a LIMIT 1",
        ordered=(0, 1),
    ),
    _case("SELECT b > 1 AS b FROM t1 WHERE LLM_FILTER('p', a) IS NOT NULL GROUP BY b"),
    _case("SELECT LLM('p', a) AS a, b FROM t1 GROUP BY a, b"),
    _case(
        "SELECT LLM('p', a) AS r, rank() OVER (ORDER BY b) AS n FROM t1 ORDER BY n, r LIMIT 2",
        ordered=(0, 1),
    ),
    *(
        _case(
            "SELECT n FROM (SELECT LLM_CLASSIFY(a, ['x', 'y']) AS k, b, count(*) AS n FROM t1 "
            f"GROUP BY {keys})"
        )
        for keys in ("ROLLUP (1, 2)", "GROUPING SETS ((1, b), ())", "(1), (b)", "b, CUBE (1)")
    ),
    _case("SELECT a, LLM('p', b) AS r FROM (FROM t1 ORDER BY c DESC LIMIT 3)", ordered=(0, 1)),
    _case(
        "SELECT n, LLM('p', a) AS r FROM (SELECT a, count(*) AS n FROM t1 GROUP BY a ORDER BY n, a "
        "DESC)",
        ordered=(0, 1),
    ),
    _case("SELECT s.r, t2.a FROM (SELECT LLM('q', a) AS r FROM t1) s POSITIONAL JOIN t2"),
    _case(
        "WITH w AS (SELECT b FROM t1 WHERE LLM_FILTER('q', a)) SELECT w.b, s.r FROM w POSITIONAL "
        "JOIN (SELECT * FROM (SELECT LLM('p', b) AS r FROM t1)) s"
    ),
    _case("SELECT * FROM (DESCRIBE SELECT LLM('p', a) AS r FROM t1)"),
    _case(
        "SELECT a, r FROM (SELECT *, rank() OVER (PARTITION BY a ORDER BY LLM_SCORE('p', b)) AS r "
        "FROM t1) WHERE r = 1 AND a = 'x'"
    ),
    _case(
        "SELECT a, b FROM t1 QUALIFY rank() OVER (PARTITION BY a ORDER BY LLM_SCORE('p', b)) = 1 "
        "AND count(*) OVER (PARTITION BY b > 1, a) > 0 AND LLM_FILTER('q', a) AND b > 0"
    ),
    *(
        _case(
            f"SELECT most({argument}) AS r, count(*) AS n FROM t1 GROUP BY ALL",
            setup="CREATE OR REPLACE MACRO most(x) AS (SELECT max(LLM('p', a, x)) FROM t2)",
        )
        for argument in ("b", "b + 1", "t1.b", "t1")
    ),
    _case("SELECT t1.a, r FROM t1, LATERAL (SELECT LLM('p', a, b) AS r, LLM('q', c) AS s)"),
    _case(
        "SELECT sum(b) OVER w FROM t1 WINDOW v AS (PARTITION BY LLM('p', a)), w AS (v ORDER BY b)"
    ),
    _case(
        "SELECT LLM('p', a) AS r, last_value(LLM_CLASSIFY(a, ['x', 'y']) IGNORE NULLS) OVER (ORDER "
        "BY b DESC) AS f FROM t1"
    ),
    _case(
        "SELECT (SELECT max(v) FROM (SELECT CASE a WHEN 1 THEN b ELSE b END AS v FROM t1 WHERE "
        "b > 0 AND LLM_FILTER('q', a))) AS r FROM t2"
    ),
    _case(
        "WITH w AS (SELECT 1 AS x) SELECT (SELECT max(rank) FROM LLM_SEARCH('t1', 'a', 'x', mode "
        ":= 'lexical', k := 4)) AS g, LLM('p', min(a)) AS r FROM t1, w GROUP BY ROLLUP ((SELECT "
        "max(rank) FROM LLM_SEARCH('t1', 'a', 'x', mode := 'lexical', k := 4)))",
        table_functions=(TableUse("LLM_SEARCH('t1', 'a', 'x', mode := 'lexical', k := 4)"),),
    ),
    *(
        _case(
            "SELECT LLM('q', a) AS g, max(LLM('p', b)) AS r, 2 AS k, count(*) AS n FROM t1 GROUP "
            f"BY {keys}"
        )
        for keys in (
            "ROLLUP (g, 1)",
            "CUBE (1, g)",
            "GROUPING SETS ((b, 1), (1), ())",
            "ROLLUP (k, 1)",
            "CUBE (LLM('q', a), 1)",
            "GROUPING SETS ((g), (k), (LLM('q', a), g))",
        )
    ),
    *(
        _case(f"SELECT b AS k, max(LLM('p', a)) AS r FROM t1 GROUP BY {keys} HAVING k > 1")
        for keys in ("1, k", "k, k", "1, 1", "CUBE (1, k)", "CUBE (k, 1)")
    ),
    _case("SELECT max(a::INTEGER) AS m FROM t1 WHERE LLM_FILTER('q', a)"),
    _case("SELECT a FROM t1 WHERE LLM_FILTER('q', a) AND a::INTEGER > 1"),
    _case(
        "SELECT (SELECT max(rank) FROM LLM_SEARCH('t1', 'a', 'x', mode := 'lexical', k := 4)) AS "
        "g, LLM('p', min(a)) AS r FROM t1 GROUP BY ROLLUP ((SELECT max(rank) FROM "
        "LLM_SEARCH('t1', 'a', 'x', mode := 'lexical', k := 4)))",
        table_functions=(TableUse("LLM_SEARCH('t1', 'a', 'x', mode := 'lexical', k := 4)"),),
    ),
    _case(
        "SELECT LLM_CLASSIFY(s2, ['x', 'y']) AS r FROM t1 s1, LATERAL (SELECT s1.a AS k, "
        "LLM_TRANSLATE(s1.b, 'German') AS m) s2"
    ),
    _case(
        "SELECT LLM_FILTER('r', s1.a, s2) FROM t1 s1 CROSS JOIN LATERAL (SELECT LLM('p', s1.b) AS "
        "m FROM t2 WHERE t2.b = s1.b) s2"
    ),
    _case(
        "SELECT LLM_CLASSIFY(s5.r8, ['x','y']) FROM (SELECT LLM('q', s6.v) AS r8 FROM (VALUES "
        "(1,'x')) s6(a,v) JOIN t1 s7 ON s6.a = s7.b WHERE LLM_FILTER('p', s7.a) AND LLM('Is {v} "
        "right?', s6.v, return_type := 'BOOLEAN')) s5"
    ),
    _case(
        "SELECT * FROM (SELECT DISTINCT ON (a) LLM('p', a) AS r2 FROM t1 s1 WHERE "
        "LLM_FILTER('p', a) ORDER BY a, b) LIMIT 0"
    ),
    _case(
        "SELECT 'x' FROM (SELECT s2.r6 FROM (SELECT LLM_FILTER('r', s3.b) AS g4, count(*) AS "
        "r6, avg(LLM_SCORE('q', s3.b)) AS r7 FROM t1 s3 GROUP BY 1) s2) s1"
    ),
    _case("SELECT LLM('p', (s1.c IS NOT NULL)) FROM t1 s1"),
    _case(
        "WITH RECURSIVE w1(t, n) AS (SELECT a, 0 FROM t1 UNION SELECT t, n + 1 FROM w1 WHERE n "
        "< 2) FROM w1 s5 CROSS JOIN t1 s6 WHERE LLM_FILTER('p', s6.a)"
    ),
    _case(
        "WITH RECURSIVE w1(t, n) AS (SELECT LLM('p', a), 0 FROM t1 UNION SELECT t, n + 1 FROM "
        "w1 WHERE n < 2) FROM w1 s5 CROSS JOIN t1 s6 WHERE LLM_FILTER('p', s6.a)"
    ),
    _case(
        "SELECT LLM_SCORE('q', s6.b) AS r7 FROM t1 s6 WHERE (SELECT max(s9.a) FROM t1 s9 LEFT "
        "JOIN LATERAL (SELECT s9.b AS r11) s10 ON true WHERE LLM_FILTER('p', s9.b)) < "
        "LLM_SENTIMENT(s6.a)"
    ),
    _case(
        "SELECT true FROM t2 s4, LATERAL (SELECT LLM_TRANSLATE(s4.b, 'German') AS r6) s5 WHERE "
        "LLM_FILTER('p', s4.b)"
    ),
    _case(
        "SELECT LLM_SCORE('r', a) FROM t1 WHERE a BETWEEN LLM_SENTIMENT(a) AND LLM_TRANSLATE(b, "
        "'German')"
    ),
    _case("SELECT LLM('p', a), max(b), LLM('q', max(b)) FROM t1 GROUP BY LLM('p', a)"),
    _case("WITH w AS MATERIALIZED (SELECT LLM('p', a) FROM t1) SELECT LLM('q', b) FROM t1"),
    _case("SELECT LLM('p', LLM('q', a), LLM('r', b)) FROM t1"),
    _case(
        "SELECT * REPLACE (s1.b AS b) FROM t1 s1 WHERE s1.a IS NOT NULL AND LLM('q', s1.*, "
        "return_type := 'BOOLEAN')"
    ),
    _case(
        "SELECT LLM('p', s1.a) AS r5 FROM t1 s1 CROSS JOIN LATERAL (SELECT LLM_CLASSIFY(s1.a, "
        "['x', 'y']) AS r4) s3"
    ),
    _case("FROM t1 s1 CROSS JOIN LATERAL (SELECT LLM('p', s1.a) AS r4) s2"),
    _case(
        "SELECT CASE WHEN NULL::BOOLEAN THEN LLM('q', b) WHEN true THEN 'x' ELSE LLM('p', a) "
        "END FROM t1"
    ),
    _case(
        "SELECT LLM('q', b, return_type := 'INTEGER') AS g2, max(a) AS r3 FROM t1 GROUP BY ALL "
        "HAVING LLM('q', g2, 'x', return_type := 'BOOLEAN') OR length(CAST(g2 AS VARCHAR)) > 1"
    ),
    _case("SELECT upper(a) AS z FROM t1 ORDER BY CASE WHEN z = 'X' THEN LLM('p', a) END"),
    _case("SELECT a AS x, x AS y, LLM('p', y) AS w FROM t1 WHERE LLM_FILTER('q', upper(w))"),
    _case(
        "WITH w1 AS (SELECT a AS g, LLM('p', a) AS h, count(*) AS n FROM t1 GROUP BY ROLLUP (a, "
        "LLM('p', a))), w2 AS (SELECT h FROM w1 UNION SELECT a FROM t2) SELECT * FROM t2 WHERE "
        "LLM_FILTER('q', a)"
    ),
    _case("SELECT b, sum(LLM_SCORE('p', a)) FROM t1 WHERE LLM_FILTER('q', a) GROUP BY ROLLUP (b)"),
    _case("SELECT (WITH w AS (SELECT LLM('p', a) AS v) SELECT max(v) FROM w, t2) FROM t1"),
    _case(
        "SELECT LLM_TRANSLATE(s1.a, 'German') FROM (VALUES (1, 'x'), (2, NULL)) s1(a, v) ANTI JOIN "
        "(VALUES (1, 'x'), (2, NULL)) s3(a, v) ON s1.v = s3.v AND LLM_FILTER('r', s1.v)"
    ),
    _case(
        "SELECT s1.a, s2.a, LLM('p', s1.a) FROM t1 s1 LEFT JOIN t2 s2 ON s1.b = s2.b AND "
        "LLM_FILTER('q', s1.a) JOIN t1 s3 ON LLM_FILTER('q', s1.a) OR LLM_FILTER('r', s2.a)"
    ),
    _case(
        "SELECT * FROM t1 s5 CROSS JOIN LATERAL (SELECT coalesce(s5.a, LLM('q', s12.b)) AS r13 "
        "FROM t2 s12 WHERE LLM('r', s12.a) <> 'y') s11"
    ),
    _case("SELECT LLM('q', {'k': b, 'm': CASE WHEN b > 1 THEN LLM('p', a) END}) FROM t1"),
    _case("SELECT * FROM t1 d, LATERAL (SELECT LLM('p', d.a) AS x) q WHERE d.b > 1"),
    _case(
        "WITH w6 AS MATERIALIZED (SELECT LLM('p', a) AS x FROM t1), w7 AS (SELECT x FROM w6) "
        "SELECT LLM('q', a) FROM t2"
    ),
    _case("SELECT * FROM (SELECT LLM('p', a) AS z FROM t1) d WHERE 1 = 0"),
    _case("SELECT count(*) FROM (SELECT LLM('p', a) AS z FROM t1) d WHERE NULL AND z = 'x'"),
    _case("SELECT b, max(LLM('p', a)) FROM t1 GROUP BY b HAVING false"),
    _case("SELECT * FROM (SELECT LLM('p', a) AS z FROM t1 LIMIT 0 OFFSET 2) d"),
    _case("SELECT *, LLM_FILTER('p', q) FROM (SELECT a, [b] AS x FROM t1) q"),
    _case("WITH q AS (SELECT a, b FROM t1) SELECT a FROM q WHERE LLM_FILTER('p', q)"),
    _case("SELECT * FROM (SELECT LLM('p', a) AS z FROM t1) d WHERE (false AND z = 'x') OR false"),
    _case(
        "SELECT s1.a AS r4, s3.d AS r5 FROM t1 s1 JOIN (VALUES (7, 'x'), (2, NULL)) s2(a, v) ON "
        "s1.b = s2.a AND LLM_FILTER('p', s1.a) RIGHT JOIN t2 s3 ON s1.b = s3.b"
    ),
    Case(
        (T1, T2),
        "CREATE OR REPLACE TABLE made AS VALUES (LLM('p', 1), 2)",
        effect="SELECT * FROM made",
    ),
    _case("SELECT LLM('p', 1) AS g, LLM_FILTER('q', NULL) AS f FROM t1 GROUP BY ALL"),
    _case("SELECT LLM('p') AS g, count(*) OVER () AS n FROM t1 GROUP BY ALL"),
    _case("SELECT LLM('p') AS g, count(*) AS n FROM t1 WHERE b > 99 GROUP BY ALL"),
    _case("SELECT LLM('p') AS g, a FROM t1 GROUP BY ALL"),
    _case(
        "SELECT a, (SELECT list(x) FROM (SELECT LLM('p', t1.a) AS x FROM t2 GROUP BY ALL)) FROM t1"
    ),
    _case("SELECT LLM('p', a) AS g, upper(g) AS h, 1 AS o, o + 1 FROM t1"),
    _case(
        "SELECT s1.a, s2.a, s3.a FROM t1 s1, t2 s2 FULL JOIN t2 s3 ON s1.a = s3.a AND "
        "LLM_FILTER('q', s2.b) WHERE s1.b IN (s3.b, 2)"
    ),
    _case(
        "SELECT s1.a, s2.a, LLM('p', s3.a) FROM t1 s1, t2 s2 FULL JOIN t1 s3 ON s1.a = s3.a "
        "WHERE s1.b IN (s3.b, 2) AND LLM_FILTER('q', s1.c)"
    ),
    _case("SELECT s1.a, LLM('p', b) FROM t2 s1, (VALUES (1), (7)) s2(b) LEFT JOIN t1 s3 USING (b)"),
    _case("SELECT s1.a, s3.a FROM t1 s1 FULL JOIN t2 s3 ON LLM_FILTER('q', LLM('r', s1.c), s3.b)"),
    _case("SELECT s1.a, s3.a FROM t1 s1 FULL JOIN t2 s3 ON LLM_FILTER('q', s1.b, LLM('r', s3.b))"),
    _case("SELECT t.a, s3.a FROM t1 t FULL JOIN t2 s3 ON LLM('q', t, s3.a) > '' AND t.b = s3.b"),
    _case(
        "SELECT t.a, s3.a FROM t1 t LEFT JOIN t2 s3 ON t.b = s3.b AND s3.d AND "
        "LLM_FILTER('q', CAST(t.b AS TINYINT), s3.a)"
    ),
    _case(
        "SELECT t.a, s3.a FROM t1 t LEFT JOIN t2 s3 ON t.b = s3.b AND LLM_FILTER('p', s3.a) AND "
        "LLM_FILTER('q', CAST(t.b AS TINYINT))"
    ),
    _case(
        "SELECT (EXISTS (SELECT 1 FROM t2 s6 WHERE LLM_FILTER('p', s1.r, s6.a))) AS x, "
        "LLM('q', s1.r) FROM (SELECT DISTINCT ON (LLM('q', b)) LLM('p', a) AS r FROM t1 s3 "
        "ORDER BY b) s1"
    ),
    _case(
        "SELECT DISTINCT b FROM t1 WHERE LLM_FILTER('p', a) OR (SELECT max(v) FROM (SELECT "
        "list_transform(['x'], lambda e: LLM_SENTIMENT(e))[1] AS v FROM t2)) IS NULL"
    ),
    Case(
        (T1, T2),
        "CREATE OR REPLACE TABLE made AS VALUES ('y', (LLM_EXTRACT(1, {'n': 'DATE'})).n) LIMIT 0",
        effect="SELECT * FROM made",
    ),
    _case("SELECT b, (LLM_EXTRACT('x', {'m': 'STRUCT(n DATE)'})).m.n AS d FROM t1"),
    Case(
        (T1, T2),
        "CREATE OR REPLACE TABLE made AS WITH w AS (SELECT a, b FROM t1) SELECT a FROM w s WHERE "
        "LLM('r', s.*, return_type := 'DATE') IS DISTINCT FROM DATE '2020-02-29'",
        effect="SELECT * FROM made",
    ),
    _case(
        "SELECT 2 AS g, 'x' AS h, count(*) AS n FROM t1 GROUP BY g, h ORDER BY "
        "LLM_CLASSIFY(g, ['x', 'y']), LLM('p', h), LLM('q', n)"
    ),
    _case(
        "SELECT r FROM (SELECT a, LLM('p', a) AS r FROM t1 WHERE b > 0 AND (SELECT bool_or(d) "
        "FROM t2)) d WHERE a > 'w'"
    ),
    _case(
        "SELECT * FROM (SELECT LLM('q', a) AS r5 FROM t1 WHERE 'b' >= LLM('r', r5)) s1 WHERE false",
        disabled="inline_aliases",
    ),
    _case(
        "SELECT upper(a) AS g, count(*) AS n FROM t1 GROUP BY 1 ORDER BY LLM('p', g), 1",
        disabled="inline_aliases",
    ),
    _case(
        "SELECT upper(a) AS g, LLM('p', g) FROM t1 LIMIT 9",
        disabled="inline_aliases",
    ),
    _case(
        "SELECT a AS x, z FROM (SELECT a, upper(a) AS x, x || '!' AS z FROM (SELECT * FROM t1 s3 "
        "WHERE LLM_FILTER('p', a) OR b > 0) s) d"
    ),
    _case(
        "SELECT a AS x, z FROM (SELECT a, upper(a) AS x, x || '!' AS z FROM (SELECT * FROM t1 s3 "
        "WHERE LLM_FILTER('p', a) OR b > 0) s) d",
        disabled="inline_aliases",
    ),
    _case(
        "SELECT z FROM (SELECT LLM('p', a) AS x, x || '!' AS z FROM t1) d",
        disabled="inline_aliases",
    ),
    _case(
        "SELECT s1.a, s2.a, s3.a FROM t1 s1 LEFT JOIN t1 s2 ON s1.a = s2.a AND LLM_FILTER('q', "
        "s1.c) LEFT JOIN t1 s3 ON s1.b = s3.b AND LLM_FILTER('q', s1.c)"
    ),
    _case(
        "SELECT s1.a, s2.a FROM t1 s1 LEFT JOIN t1 s2 ON s1.a = s2.a AND s2.b > 1 AND "
        "(LLM_FILTER('q', s1.c) OR s2.c = 0 AND LLM_FILTER('q', s1.c))"
    ),
    _case("SELECT 2 AS x, LLM('p', b) AS r, b FROM t1 ORDER BY x, b LIMIT 1", ordered=(0, 2)),
    _case("SELECT 2 AS x, LLM('p', a) AS r FROM t1 ORDER BY x LIMIT 4"),
    _case(
        "SELECT false AS x, LLM('p', a) AS r, b FROM t1 QUALIFY row_number() OVER (ORDER BY b) < 3 "
        "ORDER BY x, b LIMIT 1"
    ),
    _case(
        "SELECT b > 1 AS g, NOT EXISTS (SELECT 1 FROM t2) AS h FROM t1 GROUP BY ROLLUP ((b > 1), "
        "NOT EXISTS (SELECT 1 FROM t2)) HAVING (g OR NOT h) AND LLM('p', max(a)) > ''"
    ),
    _case(
        "SELECT r, s FROM (SELECT LLM_SCORE('p', b) AS r, DATE '2020-02-29' AS k, LLM('q', c) AS s "
        "FROM t1 WHERE NOT EXISTS (SELECT 1 FROM t2 WHERE k NOT IN (k, k))) d WHERE 2 >= r"
    ),
    _case("SELECT (SELECT max(b) FROM t2) AS x, LLM('p', a) AS r FROM t1 WHERE x < b"),
    _case("SELECT a FROM t1 WHERE b = 9 OR (c < 1 AND LLM_FILTER('p', b))"),
    _case(
        "SELECT b, count(*) AS n FROM t1 GROUP BY ROLLUP (b) HAVING b IS NULL AND "
        "sum(LLM_SCORE('p', a)) > 0"
    ),
    _case(
        "SELECT upper(a) AS g, CASE WHEN upper(a) IS NULL THEN sum(LLM_SCORE('p', b)) END AS n "
        "FROM t1 GROUP BY ROLLUP (upper(a))"
    ),
    _case(
        "SELECT upper(a) AS g, count(*) AS n FROM t1 GROUP BY 1 HAVING g > 'W' AND "
        "sum(LLM_SCORE('p', b)) > 0",
        disabled="inline_aliases",
    ),
    _case(
        "SELECT (SELECT max(LLM('e', s2.a)) FROM t2 s2 WHERE LLM_FILTER('r', t1.a, s2.a)) AS g, "
        "sum(b) AS n FROM t1 GROUP BY ROLLUP ((SELECT max(LLM('e', s2.a)) FROM t2 s2 WHERE "
        "LLM_FILTER('r', t1.a, s2.a))) HAVING sum(LLM_POSITION(l, 'r', 'first')) IS NOT NULL AND "
        "length(CAST(g AS VARCHAR)) > 1"
    ),
    _case(
        "SELECT r, sum(b) AS n FROM (SELECT * FROM t1 s2 CROSS JOIN LATERAL (SELECT "
        "LLM_CLASSIFY(s2.b, ['x', 'y']) AS r, LLM('p', s2.a) AS q) s3) s1 WHERE (s1.b >= s1.c OR "
        "length(s1.q) > 1) AND 2 IN (s1.b, s1.b) GROUP BY r"
    ),
    _case("SELECT LLM_SIMILARITY(NULL::VARCHAR, a) AS r, LLM_SIMILARITY(a, NULL) AS s FROM t1"),
    _case("SELECT count(*) FILTER (WHERE c < 1 AND LLM_FILTER('p', b)) FROM t1"),
    _case(
        "SELECT CASE WHEN b < 2 THEN LLM('p', a, b) ELSE 'z' END AS k, count(*) AS n FROM t1 "
        "GROUP BY ROLLUP (CASE WHEN b < 2 THEN LLM('p', a, b) ELSE 'z' END)"
    ),
    _case(
        "SELECT LLM('p', a) AS k, max(CASE WHEN b < 2 THEN LLM('q', b) END) AS m FROM t1 "
        "GROUP BY ROLLUP (LLM('p', a))"
    ),
    _case("SELECT *, LLM('p', a) AS r FROM t1 ORDER BY 2 DESC LIMIT 2", ordered=(1,)),
    _case(
        "SELECT b FROM t1 QUALIFY row_number() OVER (ORDER BY LLM_SCORE('q', b, c), b) <= 2 OR "
        "b >= 2"
    ),
    _case(
        "SELECT *, s1.b AS r5 FROM t1 s1, LATERAL (SELECT (s1.b > 1 OR LLM_FILTER('p', s1.a)) AS "
        "r3, LLM('q', s1.b, LLM('r', s1.a)) AS r4) s2 WHERE LLM_FILTER('q', {'k': s1.b})"
    ),
    _case(
        "SELECT * EXCLUDE (r4) REPLACE (LLM_FILTER('q', s1.a) AS d), s2.r3 FROM t2 s1 LEFT JOIN "
        "LATERAL (SELECT LLM('p', s1.a) AS r3, LLM_FILTER('r', s1.b) AS r4) s2 ON true WHERE "
        "LLM_FILTER('Is {d} right?', s1.d)"
    ),
    _case(
        "SELECT x, s2.*, count(*) OVER () FROM t1 s1, (SELECT LLM('p', s1.a)) s2(x), LATERAL "
        "(SELECT x || '!' AS y, LLM('r', s2.x) AS z) s3 WHERE LLM_FILTER('q', z) ORDER BY x"
    ),
    _case(
        "SELECT s2.r, max(b) AS m FROM t1 s1 CROSS JOIN LATERAL (SELECT LLM('p', s1.a) AS r) s2 "
        "WHERE s1.b > 1 GROUP BY s2.r HAVING s2.r IS NOT NULL ORDER BY upper(s2.r)"
    ),
    _case(
        "SELECT a, (SELECT max(s2.r || t2.a) FROM t2) AS m FROM t1 s1, LATERAL (SELECT LLM('p', "
        "s1.a) AS r, 1 AS one) s2 ORDER BY s2.one, a"
    ),
    _case("SELECT b FROM t1 WHERE LLM_SCORE('p', a) BETWEEN LLM_SCORE('q', b) AND c"),
    _case("SELECT c < LLM_SCORE('p', a) AS x, c NOT IN (0.1, LLM_SCORE('q', a)) AS y FROM t1"),
    _case("SELECT a FROM t1 WHERE LLM_SENTIMENT(b) < ALL (SELECT LLM('p', a) FROM t2)"),
    _case(
        "WITH RECURSIVE w1(t, n) AS (SELECT LLM('p', a), 0 FROM t1 UNION SELECT t, n + 1 FROM w1 "
        "WHERE n < 2), w2 AS (SELECT t FROM w1) SELECT a FROM t2"
    ),
    _case(
        "SELECT s1.a FROM t1 s1 LEFT JOIN t1 s2 ON s1.a = s2.a AND (LLM('r', s1.b) < 'n' OR "
        "LLM_FILTER('p', s1.b, s2.b))"
    ),
    _case(
        "SELECT *, LLM('q', v) FROM (SELECT LLM('p', b) || NULL::VARCHAR AS c1, a AS c2 FROM t1) "
        "UNPIVOT (v FOR n IN (c1, c2)) WHERE LLM_FILTER('r', v)"
    ),
    _case(
        "SELECT r FROM t2, (SELECT DISTINCT ON (LLM('p', a)) LLM('q', b) AS r FROM t1 ORDER BY b) "
        "d WHERE t2.b >= NULL::INTEGER"
    ),
    _case(
        "SELECT r, t2.a FROM t2, (SELECT DISTINCT ON (b) LLM('q', a) AS r FROM t1 ORDER BY b) d "
        "JOIN t1 s3 ON s3.a > d.r WHERE t2.b > 9"
    ),
    _case(
        "WITH w AS (SELECT max(LLM('q', a)) AS r FROM t1), v AS (SELECT b FROM t2 WHERE b > 0) "
        "SELECT r, v.b FROM w, v"
    ),
    _case(
        "SELECT s1.b FROM t2 s1 CROSS JOIN (SELECT avg(LLM_SCORE('q', b)) AS r FROM t1 WHERE "
        "LLM_FILTER('p', a)) s2 SEMI JOIN t1 s3 ON s3.b > 9 WHERE LLM_FILTER('r', s1.a, s2.r)"
    ),
    _case("SELECT (LLM_EXTRACT(NULL::BOOLEAN, {'n': 'INTEGER', 'd': 'DOUBLE'})).d AS r"),
    _case("SELECT (LLM_CLASSIFY(NULL::VARCHAR, ['x', 'y'], output_mode := 'multi'))[1] AS r"),
    _case(
        "VALUES ((LLM_EXTRACT({'k': 1}, {'s': 'VARCHAR', 'n': 'INTEGER'})).s, "
        "-(LLM_EXTRACT(LLM('p', true), {'n': 'INTEGER', 'l': 'DOUBLE[]'})).n, "
        "(LLM_EXTRACT(NULL::VARCHAR, {'n': 'INTEGER', 'l': 'DOUBLE[]'})).l[1]) LIMIT 2 OFFSET 2",
        fault_rate=0.4,
    ),
    _case(
        "SELECT (SELECT max(v) FROM (SELECT LLM_CLASSIFY(s3.b, ['x', 'y'], "
        "output_mode := 'multi') AS v FROM t1 s3)) AS r2 FROM (VALUES (1, 'x'), (2, NULL)) "
        "s1(a, v) WHERE LLM_FILTER('p', s1.a) ORDER BY 1 NULLS FIRST LIMIT 3"
    ),
    _case(
        "WITH w AS (SELECT b AS r FROM t1) SELECT LLM_FILTER('q', s.r) AS r FROM w s ANTI JOIN "
        "t2 ON s.r = t2.b AND LLM('r', s.r) < LLM('q', t2.a) WHERE LLM_FILTER('p', s.r) "
        "EXCEPT ALL SELECT d FROM t2"
    ),
    _case(
        "SELECT s.a IN (SELECT t2.a FROM t2 WHERE LLM_FILTER('q', s.b, t2.d)) AS g, count(*) AS n "
        "FROM t1 s GROUP BY (s.a IN (SELECT t2.a FROM t2 WHERE LLM_FILTER('q', s.b, t2.d))) "
        "HAVING (s.a IN (SELECT t2.a FROM t2 WHERE LLM_FILTER('q', s.b, t2.d))) IS NOT NULL"
    ),
    _case(
        "SELECT s.a IN (SELECT t2.a FROM t2 WHERE LLM_FILTER('q', s.b, t2.d)) AS g, count(*) AS n "
        "FROM t1 s GROUP BY (s.a IN (SELECT t2.a FROM t2 WHERE LLM_FILTER('q', s.b, t2.d)))",
        disabled="group_answers",
    ),
    _case(
        "SELECT EXISTS (SELECT 1 FROM t1 WHERE LLM_FILTER('r', t2.a, t1.c)) AS g, count(*) AS n "
        "FROM t2 GROUP BY g HAVING CAST(g AS VARCHAR) IS NOT NULL AND LLM_FILTER('p', max(a))"
    ),
    _case(
        "SELECT EXISTS (SELECT 1 FROM t1 WHERE LLM_FILTER('r', t2.a, t1.c)) AS g, count(*) AS n "
        "FROM t2 GROUP BY 1 HAVING g IS NOT NULL",
        disabled="group_answers",
    ),
    _case(
        "SELECT s.r, z.r AS z FROM t1, LATERAL (SELECT LLM('q', t1.b) AS r) s CROSS JOIN LATERAL "
        "(SELECT LLM('p', length(t1.a), t1.b) AS r) z WHERE LLM_FILTER('r', t1.c, length(s.r))"
    ),
    _case("SELECT max(COLUMNS(* EXCLUDE (l))) FROM t1 WHERE LLM_FILTER('p', a)"),
    _case("SELECT LLM('p', COLUMNS(* EXCLUDE (l))), upper(a) AS u FROM t1 WHERE LLM('q', b) > ''"),
    _case("SELECT COLUMNS(*), LLM('p', a) AS r FROM t1 ORDER BY 2, b LIMIT 2"),
    _case("SELECT COLUMNS(s1.*), LLM('p', s1.a) AS r FROM t1 s1, t2 s2"),
    _case(
        "SELECT COLUMNS(lambda c: c IN ('a', 'd')) AS x, LLM('p', d) AS r FROM t2 s1 JOIN t1 "
        "USING (a, b)"
    ),
    _case(
        "SELECT LLM('p', s1.b), LLM('q', s1.a) FROM t1 s1 WHERE LLM_FILTER('p', s1.a) INTERSECT "
        "SELECT LLM('p', s4.b), 'x' FROM t2 s4 WHERE s4.b > 9"
    ),
    _case(
        "SELECT a FROM t2 WHERE b > 9 EXCEPT SELECT LLM('q', a) FROM t1 WHERE LLM_FILTER('p', b)"
    ),
    _case(
        "WITH w AS (SELECT * FROM (SELECT LLM('p', a) AS r, b AS n FROM t2)) SELECT c, "
        "(SELECT max(r) FROM w WHERE c > n OR n > 0 OR n IS NULL) AS m FROM t1"
    ),
    _case("SELECT LLM('p', a) AS r1, LLM('p', a, model := 'other') AS r2 FROM t1"),
    _case(
        "SELECT (a IS NULL OR b > 1) AS g, count(LLM('p', c)) AS r FROM t1 "
        "GROUP BY (a IS NULL OR b > 1) HAVING count(*) > 0 OR g"
    ),
    _case(
        "SELECT (LLM_CLASSIFY(a, ['x', 'z']) IS NOT NULL) AS g, count(*) AS r FROM t1 "
        "GROUP BY (LLM_CLASSIFY(a, ['x', 'z']) IS NOT NULL) HAVING g AND LLM_FILTER('p', max(a))"
    ),
    _case(
        "SELECT s1.a FROM t1 s1 LEFT JOIN LATERAL (SELECT LLM('p', s1.a) AS r FROM t2 s3 "
        "WHERE LLM_FILTER('p', s1.a)) s2 ON true WHERE LLM_FILTER('p', s1.b)"
    ),
    _case(
        "SELECT a, LLM('p', b) AS r FROM t1 QUALIFY lag((SELECT max(LLM('q', s.a)) FROM t2 s)) "
        "OVER (ORDER BY b) IS NOT NULL LIMIT 3"
    ),
    _case(
        "SELECT s1.a FROM t1 s1 SEMI JOIN t2 s2 ON s1.a = s2.a AND LLM_FILTER('p', s1.c, s2.b) "
        "WHERE b > 0"
    ),
    _case(
        "SELECT LLM('p', (SELECT max(s2.b) FROM LLM_SEARCH('t1', 'a', 'x', mode := 'lexical', "
        "k := 4) s2) + s1.b, s1.a) AS r FROM t1 s1",
        table_functions=(TableUse("LLM_SEARCH('t1', 'a', 'x', mode := 'lexical', k := 4)"),),
    ),
    _case(
        "SELECT b + 1 AS r FROM (SELECT * FROM (SELECT LLM('p', a) AS z, b FROM t1) s) s1 WHERE "
        "r > b",
        disabled="inline_aliases,merge_derived",
    ),
    _case(
        "VALUES ((LLM_TRANSLATE(NULL::VARCHAR, 'German') || llm_sentiment(LLM('r', {'k': 1}))), 2)"
    ),
    _case("SELECT a FROM t1 WHERE LLM_FILTER('p', NULL::BOOLEAN, NULL) AND LLM_FILTER('q', b)"),
    _case("SELECT DISTINCT LLM('p', NULL), LLM('q', 1) FROM t1 ORDER BY LLM('p', NULL)"),
    _case(
        "WITH w AS MATERIALIZED (SELECT s1.is_canonical AS r FROM llm_dedup('t3', 'a') s1 SEMI "
        "JOIN llm_dedup('t3', 'z') s2 ON s1.a = s2.a) SELECT r, s3.a FROM w, LLM_SEARCH('t3', 'a', "
        "'y', mode := 'vector', k := 3) s3",
        tables=(
            Table(
                "t3",
                (Column("a", VARCHAR), Column("z", VARCHAR)),
                (("chr(31)", "'x'"), ("'\\u001f'", "chr(31)"), ("'y'", "NULL")),
            ),
        ),
        table_functions=(
            TableUse("llm_dedup('t3', 'a')"),
            TableUse("llm_dedup('t3', 'z')"),
            TableUse("LLM_SEARCH('t3', 'a', 'y', mode := 'vector', k := 3)"),
        ),
    ),
    _case("SELECT LLM('p', t1) AS t1 FROM t1"),
    _case("SELECT LLM_FIRST(t1, 'c') AS t1 FROM t1"),
    _case(
        "SELECT s1.a, s2.rank, s2.a FROM t1 s1 LEFT JOIN LATERAL LLM_SEARCH('t2', 'a', s1.a, mode "
        ":= 'lexical', k := 2) s2 ON true WHERE LLM_FILTER('p', s2.b)",
        table_functions=(
            TableUse(
                "LLM_SEARCH('t2', 'a', s1.a, mode := 'lexical', k := 2)", "s1.a", "SELECT a FROM t1"
            ),
        ),
    ),
    _case(
        "WITH w AS (SELECT LLM('r', s3.*) AS x FROM t2 s3) SELECT x, s2.a FROM w, t1 s1, "
        "LLM_SEARCH('t2', 'a', s1.a, mode := 'lexical', k := 2) s2",
        table_functions=(
            TableUse(
                "LLM_SEARCH('t2', 'a', s1.a, mode := 'lexical', k := 2)", "s1.a", "SELECT a FROM t1"
            ),
        ),
    ),
    _case("SELECT b, LLM_RANK('p', a) OVER (PARTITION BY b > 1) AS r FROM t1"),
    _case(
        "SELECT max(s1.a) AS m FROM t1 s1 RIGHT JOIN t2 s2 ON s1.a = s2.a AND (LLM_FILTER('p', "
        "s1.b) OR LLM_FILTER('q', s2.b)) HAVING count(*) > 0 AND 2 IN (1, 1)"
    ),
    _case(
        "SELECT d FROM t2 WHERE LLM_FILTER('p', a) INTERSECT SELECT b > 1 FROM t1 WHERE b > 99 "
        "QUALIFY rank() OVER (ORDER BY c) <= 2"
    ),
    _case(
        "SELECT LLM_FILTER('p', a) AS f, (SELECT max(LLM('q', t2.a)) FROM t2) AS m FROM t1 "
        "QUALIFY row_number() OVER (ORDER BY b) <= 2 ORDER BY f, m"
    ),
)
