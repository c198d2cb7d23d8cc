-- The demo of `make demo`, on the model that runs inside the process (SmolLM2, 135 million
-- parameters: real, tiny, often wrong). No server, no key, no GPU.
--
-- Expect: what will be asked, the rows, what it cost, and the same again for nothing.

-- 1. Before paying: the plan. Reviews are joined and filtered by category and date first;
--    what is left is asked, each distinct text once.
EXPLAIN
SELECT p.name, r.rating, r.review
FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)
WHERE p.category IN ('Kitchen', 'Outdoor') AND r.reviewed_on >= DATE '2026-01-01'
  AND LLM_CLASSIFY(r.review, ['praise', 'complaint']) = 'complaint'
ORDER BY r.rating, r.review_id;

-- 2. The rows: reviews of 2026 that the model reads as complaints. The stars, which it did
--    not see, tell how far to trust it.
SELECT p.name, r.rating, r.review
FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)
WHERE p.category IN ('Kitchen', 'Outdoor') AND r.reviewed_on >= DATE '2026-01-01'
  AND LLM_CLASSIFY(r.review, ['praise', 'complaint']) = 'complaint'
ORDER BY r.rating, r.review_id;

-- 3. The same question inside another statement: how often do words and stars agree? The
--    answers are already there, so no call is made.
SELECT LLM_CLASSIFY(r.review, ['praise', 'complaint']) AS model_says,
       CASE WHEN r.rating <= 2 THEN '1-2 stars' WHEN r.rating = 3 THEN '3 stars'
            ELSE '4-5 stars' END AS customer_said,
       count(*) AS reviews
FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)
WHERE p.category IN ('Kitchen', 'Outdoor') AND r.reviewed_on >= DATE '2026-01-01'
GROUP BY ALL
ORDER BY ALL;

-- 4. Typed columns out of text: each name is read once, however many reviews the join
--    repeats it for. EXPLAIN ANALYZE runs the statement and says what it took.
EXPLAIN ANALYZE
SELECT p.name, LLM_EXTRACT(p.name, {'product': 'VARCHAR', 'number': 'INTEGER'}) AS facts,
       round(avg(r.rating), 1) AS stars, count(*) AS reviews
FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)
WHERE p.category = 'Kitchen'
GROUP BY p.name
ORDER BY stars DESC, p.name;

-- 5. Its rows. The answers are still there.
SELECT p.name, LLM_EXTRACT(p.name, {'product': 'VARCHAR', 'number': 'INTEGER'}) AS facts,
       round(avg(r.rating), 1) AS stars, count(*) AS reviews
FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)
WHERE p.category = 'Kitchen'
GROUP BY p.name
ORDER BY stars DESC, p.name;

-- 6. What everything cost.
SELECT statement, calls, answered_from_cache, prompt_tokens, cached_tokens, completion_tokens,
       failures, round(seconds, 1) AS seconds
FROM llm_queries()
ORDER BY statement;
