"""Statements in every form that a scalar function may take, over the tables of conftest."""

from __future__ import annotations

STAGED = [
    # SELECT and WHERE
    "SELECT title, LLM('Why?', title, synopsis) AS why FROM movies",
    "SELECT title FROM movies WHERE LLM_FILTER('For children?', synopsis)",
    "SELECT title FROM movies WHERE year > 2000 AND LLM_FILTER('For children?', synopsis)",
    "SELECT title FROM movies WHERE LLM_FILTER('For children?', synopsis) AND year > 2000",
    "SELECT title FROM movies WHERE NOT LLM_FILTER('For children?', synopsis)",
    "SELECT title FROM movies WHERE LLM_FILTER('Sad?', synopsis) OR year > 2010",
    "SELECT title FROM movies WHERE year > 2010 OR LLM_FILTER('Sad?', synopsis)",
    "SELECT title FROM movies WHERE LLM_FILTER('a', synopsis) AND LLM_FILTER('b', title)",
    "SELECT title FROM movies WHERE LLM_FILTER('a', synopsis) IS NULL",
    "SELECT title FROM movies WHERE LLM_FILTER('a', synopsis) IS NOT TRUE",
    "SELECT LLM_FILTER('a', synopsis) FROM movies",
    "SELECT * FROM movies WHERE LLM_FILTER('a', synopsis)",
    "SELECT *, LLM_SENTIMENT(synopsis) AS s FROM movies WHERE LLM_FILTER('a', synopsis)",
    "SELECT m.*, LLM_SENTIMENT(m.synopsis) AS s FROM movies m",
    "SELECT * EXCLUDE (year) REPLACE (upper(title) AS title) FROM movies WHERE LLM_FILTER('a', title)",
    "FROM movies WHERE LLM_FILTER('a', synopsis)",
    "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (SELECT id, LLM_FILTER('a', title) AS f FROM movies)",
    "SELECT max(COLUMNS('f.*')) FROM (SELECT id, LLM('a', title) AS f1, title AS f2 FROM movies)",
    "SELECT COLUMNS(c -> c LIKE 'f%') FROM (SELECT id, LLM('a', title) AS f1, title AS f2 FROM movies)",
    "SELECT d FROM (SELECT id, LLM('a', title) AS x FROM movies) d",
    "SELECT b FROM (SELECT LLM('a', title) AS a, LLM('b', title) AS b FROM movies ORDER BY ALL LIMIT 1)",
    "SELECT b FROM (SELECT LLM('a', title) AS a, LLM('b', title) AS b FROM movies ORDER BY ALL DESC LIMIT 3)",
    "SELECT hash(d) FROM (SELECT id, LLM('a', title) AS x FROM movies) d",
    "SELECT count(*) FROM (SELECT id, LLM('a', title) AS x FROM movies) WHERE x LIKE '%a%'",
    "FROM movies SELECT title, LLM('x', title)",
    "SELECT upper(LLM('x', title)) || '!' AS u, LLM('x', title) || genre FROM movies",
    "SELECT LLM_FILTER('a', synopsis) AND year > 2000 FROM movies",
    "SELECT DISTINCT LLM_CLASSIFY(synopsis, ['a', 'b', 'c']) FROM movies",
    "SELECT LLM('Write a haiku')",
    "SELECT LLM('Write a haiku') AS h, title FROM movies",
    "SELECT LLM(title) FROM movies",
    "SELECT LLM('Is {title} good, given {synopsis}?', title, synopsis) FROM movies",
    "SELECT LLM('x', t.*) FROM movies t",
    "SELECT LLM('x', *) FROM movies",
    "SELECT LLM('x', {'name': upper(title), 'when': year + 1}) FROM movies",
    "SELECT LLM('x', upper(title), year + 1) FROM movies",
    'SELECT LLM_FILTER(\'x\', "select", "a b", "q""uote") FROM "odd table"',
    "SELECT LLM('x', x) FROM empty_table",
    # types
    "SELECT LLM('How many?', title, return_type := 'INTEGER') AS n FROM movies",
    "SELECT LLM('When?', title, return_type := 'DATE') AS n FROM movies",
    "SELECT LLM('What?', title, return_type := 'DECIMAL(9,2)[]') AS n FROM movies",
    "SELECT LLM_CLASSIFY(synopsis, ['a', 'b', 'c'], output_mode := 'multi') AS c FROM movies",
    "SELECT LLM_CLASSIFY(synopsis, {'a': 'first', 'b': 'second'}) AS c FROM movies",
    "SELECT LLM_CLASSIFY(synopsis, MAP {'a': 'first', 'b': 'second'}) AS c FROM movies",
    "SELECT LLM_EXTRACT(body, {'price': 'DOUBLE', 'brand': 'VARCHAR: the maker'}) AS e FROM reviews",
    "SELECT e.price, e.items[1].name FROM (SELECT LLM_EXTRACT(body, {'price': 'DOUBLE', "
    "'items': 'STRUCT(name VARCHAR, n INTEGER)[]'}) AS e FROM reviews)",
    "SELECT LLM_SCORE('How good?', body) AS s FROM reviews",
    "SELECT LLM_SCORE('How good?', body, min := 1, max := 5) AS s FROM reviews",
    "SELECT LLM_SUMMARIZE(body), LLM_TRANSLATE(body, 'German'), LLM_SENTIMENT(body) FROM reviews",
    "SELECT AI_COMPLETE('x', body), AI_FILTER('x', body), AI_SENTIMENT(body) FROM reviews",
    # ORDER BY, LIMIT
    "SELECT title FROM movies ORDER BY LLM_SCORE('How good?', synopsis) DESC, id",
    "SELECT title, LLM_SCORE('How good?', synopsis) AS s FROM movies ORDER BY s DESC, id LIMIT 5",
    "SELECT title, LLM('x', title) FROM movies ORDER BY year DESC LIMIT 4",
    "SELECT title, LLM('x', title) AS x FROM movies ORDER BY 1 LIMIT 4 OFFSET 2",
    "SELECT * , LLM('x', title) AS x FROM movies ORDER BY id LIMIT 4",
    "SELECT id, LLM('x', title) AS x FROM movies WHERE LLM_FILTER('a', synopsis) ORDER BY id LIMIT 3",
    # joins
    "SELECT title, body FROM movies m JOIN reviews r ON r.movie_id = m.id "
    "WHERE stars > 2 AND LLM_FILTER('match?', m.synopsis, r.body)",
    "SELECT title, body FROM movies m JOIN reviews r ON r.movie_id = m.id "
    "AND LLM_FILTER('match?', m.synopsis, r.body)",
    "SELECT m.title, LLM('x', m.id, r.id) FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id",
    "SELECT m.title, LLM('x', m.title, body) FROM movies m RIGHT JOIN reviews r ON r.movie_id = m.id",
    "SELECT LLM('x', m.title, body) FROM movies m FULL JOIN reviews r ON r.movie_id = m.id",
    "SELECT title FROM movies m, reviews r WHERE r.movie_id = m.id AND LLM_FILTER('a', body)",
    "SELECT id, LLM('x', title) FROM movies JOIN (SELECT DISTINCT movie_id AS id FROM reviews) USING (id)",
    "SELECT *, LLM('x', title) AS w FROM movies JOIN (SELECT movie_id AS id FROM reviews) USING (id)",
    "SELECT title FROM movies m SEMI JOIN reviews r ON r.movie_id = m.id WHERE LLM_FILTER('a', title)",
    "SELECT title FROM movies m ANTI JOIN reviews r ON r.movie_id = m.id WHERE LLM_FILTER('a', title)",
    "SELECT m.title, b.t FROM movies m CROSS JOIN LATERAL (SELECT m.title || '?' AS t) b "
    "WHERE LLM_FILTER('a', b.t)",
    "SELECT m.title, r.body FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id "
    "AND LLM_FILTER('a', r.body, m.title) WHERE LLM_FILTER('b', r.body)",
    # grouping
    "SELECT LLM_CLASSIFY(body, ['a', 'b']) AS c, count(*) FROM reviews GROUP BY c",
    "SELECT LLM_CLASSIFY(body, ['a', 'b']) AS c, count(*) FROM reviews GROUP BY 1 HAVING count(*) > 2",
    "SELECT *, LLM_SCORE('x', title) AS s FROM movies ORDER BY ALL LIMIT 3",
    "SELECT id AS c2, LLM('w', title) AS c0, LLM_SCORE('z', title) AS c1 FROM movies "
    "ORDER BY c1 DESC, c2 LIMIT 3",
    "SELECT year AS c1, id AS c2, LLM('w', title) AS c0 FROM movies QUALIFY row_number() OVER "
    "(PARTITION BY genre ORDER BY id) < 4 ORDER BY c2 % 3, c1",
    "SELECT -stars AS c1, movie_id AS c0, LLM('w', string_agg(body ORDER BY id)) FROM reviews "
    "GROUP BY stars, movie_id ORDER BY movie_id % 5, stars, c0 LIMIT 4",
    "SELECT id, LLM('a', title), LLM_SCORE('s', title) AS s FROM movies WHERE LLM_FILTER('w', synopsis) "
    "ORDER BY genre DESC NULLS LAST, s DESC, id LIMIT 3 OFFSET 2",
    "SELECT m.id, r.id AS c0 FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id ORDER BY year % 4, "
    "LLM_SCORE('w', r.body) DESC NULLS FIRST, m.id, c0 LIMIT 7",
    "SELECT LLM_CLASSIFY(body, ['a', 'b']) AS c, avg(stars) FROM reviews GROUP BY ALL ORDER BY ALL",
    "SELECT LLM_CLASSIFY(body, ['a', 'b']), sum(stars) FROM reviews "
    "GROUP BY LLM_CLASSIFY(body, ['a', 'b'])",
    "SELECT movie_id, avg(LLM_SCORE('How good?', body)) FROM reviews GROUP BY movie_id",
    "SELECT movie_id, count(*) FILTER (WHERE LLM_FILTER('a', body)) FROM reviews GROUP BY movie_id",
    "SELECT sum(LLM_SCORE('How good?', body)) FILTER (WHERE stars > 3) FROM reviews",
    "SELECT movie_id, LLM_SUMMARIZE(string_agg(body, ' ' ORDER BY id)) AS s FROM reviews GROUP BY movie_id",
    "SELECT movie_id, LLM_SUMMARIZE(string_agg(body, ' ' ORDER BY id)) AS s FROM reviews "
    "GROUP BY ALL HAVING count(*) > 2 ORDER BY movie_id DESC LIMIT 3",
    "SELECT movie_id FROM reviews GROUP BY movie_id HAVING LLM_FILTER('a', max(body))",
    "SELECT stars, LLM('x', stars) AS x, count(*) FROM reviews GROUP BY stars ORDER BY stars",
    "SELECT count(*), LLM('x', max(body)) FROM reviews",
    "SELECT LLM_CLASSIFY(body, ['a', 'b']) AS c, count(*) FROM reviews WHERE c = 'a' GROUP BY c",
    "SELECT max(LLM_CLASSIFY(title, ['a', 'b', 'c'])) AS m FROM movies LIMIT 1",
    "SELECT count(LLM_CLASSIFY(title, ['a', 'b', 'c'])) AS m FROM movies LIMIT 5",
    # CASE and friends
    "SELECT CASE WHEN stars > 3 THEN 'good' ELSE LLM_CLASSIFY(body, ['a', 'b']) END FROM reviews",
    "SELECT CASE WHEN LLM_FILTER('a', body) THEN LLM('x', body) WHEN stars > 2 THEN LLM('y', body) END "
    "FROM reviews",
    "SELECT CASE stars WHEN 1 THEN LLM('x', body) WHEN 2 THEN LLM('y', body) END FROM reviews",
    "SELECT coalesce(genre, LLM_CLASSIFY(title, ['a', 'b'])) FROM movies",
    "SELECT if(stars > 3, LLM('x', body), LLM('y', body)) FROM reviews",
    "SELECT title FROM movies WHERE (LLM_FILTER('a', title) AND year > 2000) OR LLM_FILTER('b', title)",
    "SELECT stars ** 2 AS s, LLM('x', body) AS x FROM reviews",
    "SELECT LLM('p', genre) AS a, LLM('q', max(title)) AS b FROM movies GROUP BY 1",
    "SELECT title FROM movies WHERE title BETWEEN LLM_SENTIMENT(title) AND LLM('x', genre)",
    "SELECT LLM('p', LLM('q', title), LLM('r', genre)) FROM movies",
    "SELECT LLM('p', (genre IS NOT NULL)) FROM movies WHERE genre IS NOT NULL",
    # subqueries, CTEs, set operations
    "FROM movies m CROSS JOIN (SELECT 1 AS one) s WHERE LLM_FILTER('p', m.title)",
    "WITH unread AS (SELECT LLM('x', title) FROM movies) SELECT LLM('y', genre) FROM movies",
    "SELECT LLM_SCORE('q', m.title) FROM movies m WHERE (SELECT max(r.body) FROM reviews r "
    "WHERE LLM_FILTER('p', r.body)) < LLM_SENTIMENT(m.title)",
    "WITH good AS (SELECT * FROM movies WHERE LLM_FILTER('a', synopsis)) SELECT count(*) FROM good",
    "WITH c AS (SELECT id, LLM_CLASSIFY(body, ['a', 'b']) AS c FROM reviews) "
    "SELECT c, count(*) FROM c GROUP BY c HAVING LLM_FILTER('z', c)",
    "SELECT s, LLM_SENTIMENT(s) FROM (SELECT LLM_SUMMARIZE(body) AS s FROM reviews)",
    "SELECT LLM_SENTIMENT(LLM_SUMMARIZE(body)) FROM reviews",
    "SELECT id FROM (SELECT id, LLM('x', body) AS unused FROM reviews) WHERE id > 3",
    "SELECT count(*) FROM (SELECT LLM('x', body) FROM reviews)",
    "WITH c AS (SELECT id, LLM('x', body) AS x, LLM('y', body) AS y FROM reviews) "
    "SELECT a.id, b.y FROM c a JOIN c b ON a.id = b.id",
    "SELECT x FROM (SELECT id, LLM('x', body) AS x FROM reviews) AS d WHERE d.id < 20",
    "WITH c AS (SELECT id + 1 AS n, LLM('x', body) AS x FROM reviews WHERE stars > 1) "
    "SELECT m.title, c.x FROM movies m JOIN c ON c.n = m.id WHERE c.n > 5",
    "WITH c AS (SELECT *, LLM('x', body) AS x FROM reviews) SELECT id, x FROM c WHERE stars > 3",
    "SELECT t FROM (SELECT id, LLM('x', body) AS x FROM reviews) AS t",
    "SELECT LLM_SUMMARIZE(body) AS s, LLM_SENTIMENT(s) FROM reviews",
    "SELECT title FROM movies WHERE id IN (SELECT movie_id FROM reviews WHERE LLM_FILTER('a', body))",
    "SELECT title, LLM('x', title) FROM movies WHERE LLM_FILTER('q', title) "
    "UNION ALL SELECT title, LLM('y', title) FROM movies WHERE year > 2000",
    "SELECT LLM('x', title) FROM movies EXCEPT SELECT LLM('x', title) FROM movies WHERE year > 2000",
    "SELECT LLM('x', (SELECT max(title) FROM movies))",
    "SELECT LLM('x', body, (SELECT title FROM movies m WHERE m.id = movie_id)) FROM reviews",
    "SELECT title FROM movies QUALIFY row_number() OVER (PARTITION BY genre ORDER BY id) = 1 "
    "AND LLM_FILTER('a', title)",
    "SELECT id, row_number() OVER (ORDER BY LLM_SCORE('s', body), id) FROM reviews",
    "SELECT id, sum(stars) OVER (PARTITION BY LLM_CLASSIFY(body, ['a', 'b']) ORDER BY id) FROM reviews",
]
"""Staged whole, and equal to the naive plan as they stand."""

FORMS = [
    "SELECT LLM('x', sum(stars) OVER (PARTITION BY movie_id)) FROM reviews",
    "SELECT id, LLM('x', lag(body) OVER (PARTITION BY movie_id ORDER BY id), body) AS r FROM reviews "
    "WHERE LLM_FILTER('p', stars) ORDER BY r, id LIMIT 4",
    # calls after QUALIFY
    "SELECT title, LLM('w', synopsis) AS why FROM movies "
    "QUALIFY row_number() OVER (PARTITION BY genre ORDER BY id) <= 3 AND LLM_FILTER('a', title) "
    "ORDER BY why, id LIMIT 5",
    "SELECT *, LLM('w', title) AS why, rank() OVER w AS k FROM movies "
    "WINDOW w AS (PARTITION BY genre ORDER BY LLM_SCORE('s', synopsis), id) QUALIFY k <= 2",
    "SELECT id + 1 AS id, LLM('w', title) FROM movies "
    "QUALIFY id > 5 AND sum(id) OVER (ORDER BY id) < 300 ORDER BY id DESC",
    "SELECT count(why) FROM (SELECT LLM('w', id) AS why FROM movies m "
    "QUALIFY count(*) OVER (PARTITION BY m.genre) > 3 AND false)",
    "SELECT LLM('w', row_number() OVER (ORDER BY id)) FROM movies "
    "QUALIFY LLM_FILTER('a', row_number() OVER (ORDER BY id)) OR LLM_FILTER('b', title)",
    # samples of all rows, so that both sides sample the same
    "SELECT title, LLM('x', title) FROM movies USING SAMPLE 1000 ROWS",
    "SELECT count(*) FROM movies WHERE LLM_FILTER('x', title) USING SAMPLE 100%",
    "SELECT movies.title, LLM('x', *) FROM movies USING SAMPLE 100% (bernoulli)",
    "SELECT m.title FROM movies m TABLESAMPLE reservoir(1000 ROWS), reviews r TABLESAMPLE 100% "
    "WHERE m.id = r.movie_id AND LLM_FILTER('x', title)",
    "WITH c AS (SELECT * FROM movies WHERE id < 9) SELECT LLM('x', title) FROM c USING SAMPLE 1000 ROWS",
    "WITH c AS (SELECT * FROM movies WHERE id < 9) SELECT LLM('x', title) FROM c TABLESAMPLE 100%",
    "WITH c AS (SELECT id, LLM('x', title) AS x FROM movies), d AS (FROM movies) FROM c AS e(i) TABLESAMPLE "
    "reservoir(9 ROWS) REPEATABLE (3)",
    "WITH c AS (SELECT id, LLM('x', title) AS x FROM movies) SELECT c.x FROM c USING SAMPLE reservoir(9 ROWS) "
    "REPEATABLE (3)",
    "SELECT c.x, r.id FROM (SELECT id, LLM('x', title) AS x FROM (FROM movies ORDER BY id LIMIT 9)) c "
    "JOIN reviews r ON r.id = c.id WHERE LLM_FILTER('f', body)",
    "SELECT * FROM (SELECT * FROM movies USING SAMPLE 1000 ROWS) s WHERE LLM_FILTER('x', s.title)",
    # PIVOT and UNPIVOT
    "SELECT id, n, LLM('x', v) FROM (UNPIVOT (SELECT id, title, genre FROM movies) ON title, genre "
    "INTO NAME n VALUE v)",
    "SELECT *, LLM('x', v) AS w FROM (SELECT id, title, genre FROM movies) t "
    "UNPIVOT (v FOR n IN (title, genre)) WHERE LLM_FILTER('y', v)",
    "SELECT genre, LLM('x', a) FROM (SELECT genre, LLM_CLASSIFY(title, ['a', 'b']) AS c FROM movies) "
    "PIVOT (count(*) FOR c IN ('a', 'b'))",
    "SELECT LLM('x', p.*) AS w FROM movies PIVOT (count(*) FOR genre IN ('drama', 'comedy') GROUP BY year) p",
    # VALUES
    "VALUES (LLM('x', 'a'), 1), (LLM('x', 'b'), 2)",
    "VALUES (LLM('x', 'a')), ('b') ORDER BY 1 LIMIT 1",
    "VALUES (LLM('n', 'a', return_type := 'INTEGER')), (2.5)",
    "SELECT * FROM (VALUES (LLM('x', 'a')), (LLM('y', 'b'))) t(q) WHERE q > 'a'",
    "SELECT id FROM movies WHERE title IN (VALUES (LLM('x', 'a')), ('Movie 3'))",
    # unnest in FROM
    "SELECT title, u.x FROM movies, unnest([1, 2]) u(x) WHERE LLM_FILTER('a', title, u.x)",
    "SELECT id, LLM('x', u.unnest) FROM movies CROSS JOIN unnest([title, genre]) AS u",
    "SELECT m.id, u.x, LLM('x', u.x) FROM reviews r, movies m, unnest([m.title, r.body]) u(x) "
    "WHERE m.id = r.id",
    "SELECT u.x, LLM('x', title) FROM movies, unnest([year]) u(x), reviews r WHERE r.id = u.x",
    "SELECT m.id, LLM('x', u.x) FROM reviews q, movies m JOIN reviews r ON r.id = m.id, "
    "unnest([m.genre]) u(x) WHERE q.id = 1",
    "SELECT id, LLM('x', u.t) FROM movies, LATERAL unnest([title, genre]) AS u(t)",
    "SELECT id, LLM('x', u.t) FROM movies LEFT JOIN LATERAL unnest([title, genre]) AS u(t) ON true",
    # what a reader wants of a UNION ALL, and of ordered rows
    "SELECT t FROM (SELECT id, title AS t, LLM('x', title) AS x FROM movies UNION ALL "
    "SELECT id, body, LLM('y', body) FROM reviews) AS u WHERE id < 10 AND t > 'Movie 3'",
    "SELECT count(*), max(x) FROM (SELECT id, title AS t, LLM('x', title) AS x FROM movies UNION ALL "
    "(SELECT id, body, LLM('y', body) FROM reviews ORDER BY id LIMIT 7) UNION ALL "
    "SELECT 1, 'a', NULL) AS u(i, j) WHERE u.i % 2 = 0",
    "SELECT u FROM (SELECT id, LLM('x', title) AS x FROM movies UNION ALL SELECT id, 'y' FROM reviews) u "
    "WHERE x > 'answer 5' AND id > 3",
    "SELECT x, (SELECT max(stars) FROM reviews WHERE reviews.id = u.id) AS m FROM (SELECT id, "
    "LLM('x', title) AS x FROM movies UNION ALL SELECT id, LLM('y', body) FROM reviews) u WHERE id < 5",
    "SELECT * FROM (SELECT id, LLM('x', title) AS x FROM movies UNION ALL SELECT id, 'y' FROM reviews) u "
    "WHERE LLM_FILTER('q', x) AND id BETWEEN 2 AND 6",
    "SELECT * FROM (SELECT id, title, LLM('x', title) AS x FROM movies ORDER BY year DESC) LIMIT 4",
    "SELECT *, LLM_FILTER('p', q) AS a FROM (SELECT LLM('x', title) AS x, id FROM movies) q",
    # grouping sets
    "SELECT LLM_CLASSIFY(title, ['a', 'b']) AS c, genre, count(*) FROM movies GROUP BY ROLLUP (c, genre)",
    "SELECT LLM_CLASSIFY(title, ['a', 'b']), genre, count(*), avg(year) FROM movies WHERE year > 1995 "
    "GROUP BY CUBE (LLM_CLASSIFY(title, ['a', 'b']), genre)",
    "SELECT genre, upper(LLM_CLASSIFY(title, ['a', 'b'])) AS c, count(*) AS n FROM movies "
    "GROUP BY GROUPING SETS ((genre), (c), (genre, c), ()) HAVING n > 2 ORDER BY n DESC, 1, 2",
    "SELECT grouping(c) AS g, LLM_CLASSIFY(body, ['a', 'b']) AS c, max(LLM_SCORE('g', title)) "
    "FROM movies m JOIN reviews r ON m.id = r.movie_id GROUP BY ROLLUP (c)",
    "SELECT LLM('x', genre) AS x, m.genre, count(*) FILTER (WHERE LLM_FILTER('p', title)) FROM movies m "
    "GROUP BY CUBE (LLM('x', genre), m.genre)",
    "SELECT m.title, c, count(*) FROM (SELECT title, LLM_CLASSIFY(title, ['a', 'b']) AS c FROM movies) m "
    "GROUP BY ROLLUP (m.title, c)",
]
"""Forms that have to be written in another way before they can be staged."""

GUARDED = [
    "SELECT LLM('x', CAST(title AS INTEGER)) FROM movies WHERE id < 0 AND LLM_FILTER('a', title)",
    "SELECT CASE WHEN LLM_FILTER('nobody', genre) IS NULL AND genre IS NOT NULL "
    "THEN LLM('x', CAST(title AS INTEGER)) END FROM movies",
]
"""Arguments that fail for the rows that do not reach the call."""

STAGED_ON_DUCKDB_2 = [
    "SELECT title FROM movies m WHERE EXISTS (SELECT 1 FROM reviews r WHERE r.movie_id = m.id "
    "AND LLM_FILTER('a', r.body, m.title))",
    "SELECT title FROM movies m WHERE year > 2000 AND NOT EXISTS (SELECT 1 FROM reviews r "
    "WHERE r.movie_id = m.id AND LLM_FILTER('a', r.body))",
    "SELECT title, (SELECT max(LLM('x', body)) FROM reviews r WHERE r.movie_id = m.id) AS x "
    "FROM movies m WHERE year > 2000",
    "SELECT title FROM movies m WHERE id IN (SELECT movie_id FROM reviews r WHERE r.stars > 2 "
    "AND LLM_FILTER('a', r.body, m.title))",
    "SELECT title, t.x FROM movies m, LATERAL (SELECT LLM('x', m.title, r.body) AS x "
    "FROM reviews r WHERE r.movie_id = m.id) t",
    "SELECT m.title, r.body FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id "
    "AND LLM_FILTER('a', r.body)",
    "SELECT m.title, r.body FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id "
    "AND LLM_FILTER('a', r.body, m.title) WHERE m.year > 2005",
    "SELECT * FROM movies m RIGHT JOIN reviews r ON LLM_FILTER('a', m.title, r.body) "
    "AND r.movie_id = m.id",
    "SELECT m.title FROM movies m SEMI JOIN reviews r ON r.movie_id = m.id AND LLM_FILTER('a', body)",
    "SELECT m.title FROM movies m ANTI JOIN reviews r ON r.movie_id = m.id AND LLM_FILTER('a', body)",
]
"""Staged whole where DuckDB can plan the rewritten form; 1.x cannot."""

NAIVE_MAY_ASK_LESS = [
    "SELECT upper(title) AS id, x FROM (SELECT id, title, LLM('x', title) AS x FROM movies "
    "ORDER BY id DESC) LIMIT 4",
    "SELECT title AS t, id FROM (SELECT *, LLM('x', title) AS x FROM movies ORDER BY 2, year) WHERE id > 3",
    "SELECT count(*) FROM (SELECT max(LLM('x', title)) AS unread FROM movies)",
    "SELECT count(*) FROM (SELECT list(title) FILTER (WHERE LLM_FILTER('x', title)) AS unread FROM movies)",
    "SELECT m.title, r.body FROM movies m FULL JOIN reviews r ON LLM_FILTER('a', m.title) "
    "AND r.movie_id = m.id AND LLM_FILTER('b', r.body)",
]
"""Equal, but DuckDB's own plan may ask less: it pushes conditions through outer joins, and at
run time the range of a join's keys to the other side."""

SCALAR = [
    "SELECT LLM('x', genre) AS x, genre, count(*) FROM movies GROUP BY ROLLUP (genre)",
    "SELECT LLM('x', unnest([title, genre])) FROM movies",
    "SELECT LLM('x', m.title) FROM movies m JOIN reviews r ON m.id = r.movie_id USING SAMPLE 100%",
    "SELECT LLM('x', genre, (SELECT max(LLM('y', title)) FROM movies)) FROM movies",
    "SELECT list_transform([title, genre], x -> LLM('x', x)) FROM movies",
    "WITH RECURSIVE c AS (SELECT 'a' AS t, 1 AS n UNION ALL SELECT LLM('more', t), n + 1 "
    "FROM c WHERE n < 3) SELECT * FROM c",
]
"""Calls that run wholly or in part by the scalar function."""
