-- A first filter: keep the rows of which a sentence is true.
--
-- LLM_FILTER(question, column) is TRUE, FALSE or NULL, so it goes wherever a condition
-- goes. DuckDB applies the rating and the date first; the model only reads what is left:
-- 14 reviews out of 291.
--
-- Expect: those one-star reviews of 2026 that speak of danger, newest first.
--
-- Run: quackllm -f sql_examples/01_first_filter.sql

SELECT review_id, rating, review
FROM 'data/product_reviews.csv'
WHERE rating = 1
  AND reviewed_on >= DATE '2026-01-01'
  AND LLM_FILTER('Does the customer describe something dangerous?', review)
ORDER BY reviewed_on DESC;
