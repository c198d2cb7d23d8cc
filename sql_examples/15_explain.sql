-- Before you pay: EXPLAIN. After you paid: EXPLAIN ANALYZE.
--
-- EXPLAIN asks no model anything. It shows the stages: what DuckDB does, how many distinct
-- questions there are, in what order. EXPLAIN ANALYZE runs the statement and says what
-- happened: calls, tokens in, out and from the cache, failures, seconds.
--
-- Expect: two plans, the second with numbers measured while it ran.

EXPLAIN
SELECT p.name, count(*) AS dangers
FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)
WHERE r.rating = 1 AND LLM_FILTER('Did somebody get hurt or scared?', r.review)
GROUP BY p.name;

EXPLAIN ANALYZE
SELECT p.name, count(*) AS dangers
FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)
WHERE r.rating = 1 AND p.category = 'Kitchen'
  AND LLM_FILTER('Did somebody get hurt or scared?', r.review)
GROUP BY p.name;
