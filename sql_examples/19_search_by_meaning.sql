-- Search by meaning: LLM_EMBED and LLM_SIMILARITY.
--
-- An embedding is a vector; texts that mean something similar have vectors that point in
-- similar directions. Without settings they come from all-MiniLM-L6-v2, in this process.
-- The second statement keeps the vectors in a table: the third embeds one text only.
--
-- Expect: first the three reviews nearest to the question, none of which has its words;
-- then the number of reviews and the type of a vector; then the nearest ones to
-- another question; and at last pairs of products whose names mean nearly the same.

SELECT round(LLM_SIMILARITY(review, 'it broke after a short time'), 2) AS similarity, review
FROM 'data/product_reviews.csv'
ORDER BY similarity DESC NULLS LAST, review_id
LIMIT 3;

CREATE OR REPLACE TEMP TABLE indexed AS
SELECT review_id, review, LLM_EMBED(review) AS vector FROM 'data/product_reviews.csv';

SELECT count(*) AS reviews, any_value(typeof(vector)) AS type FROM indexed;

SELECT review, count(*) AS written
FROM indexed
GROUP BY review, vector
ORDER BY array_cosine_similarity(vector, LLM_EMBED('a present for somebody')) DESC NULLS LAST
LIMIT 3;

SELECT a.name, b.name, round(LLM_SIMILARITY(a.name, b.name), 2) AS similarity
FROM 'data/products.csv' AS a JOIN 'data/products.csv' AS b
  ON a.product_id < b.product_id AND LLM_SIMILARITY(a.name, b.name) > 0.5
ORDER BY similarity DESC;
