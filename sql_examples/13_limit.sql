-- LIMIT: a few rows are wanted.
--
-- EXPLAIN and llm_queries() show how many of the rows were asked about. The rows are the
-- ones that asking about every row would give.
--
-- Expect: three reviews, in the order of their numbers.

SELECT review_id, review
FROM 'data/product_reviews.csv'
WHERE rating >= 4 AND length(review) < 60
  AND LLM_FILTER('Is the review funny?', review)
ORDER BY review_id
LIMIT 3;
