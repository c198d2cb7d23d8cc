-- Ask about groups: LLM_AGG, LLM_SUMMARIZE_AGG and LLM_REDUCE.
--
-- LLM_AGG is an aggregate: one answer about all values of a group, however many there are.
-- What does not fit into one prompt is read in parts, whose answers are combined; the second
-- statement makes the parts small to show it, and the third what that has cost.
--
-- Expect: what the tickets of each channel are about; then one answer about all reviews of
-- 1 or 2 stars, the lowest first; the calls that this statement made; and of three
-- products what the reviews that mention a part say about it.

SELECT channel, count(*) AS tickets, LLM_SUMMARIZE_AGG(subject, max_words := 20) AS about
FROM 'data/support_tickets.csv'
GROUP BY channel
ORDER BY channel;

SELECT LLM_AGG(review, 'What went wrong most often?', max_words := 20, chunk_tokens := 200
               ORDER BY rating) FILTER (WHERE rating <= 2) AS complaints
FROM 'data/product_reviews.csv';

SELECT calls, failures FROM llm_queries() ORDER BY statement DESC LIMIT 1;

SELECT p.name,
       LLM_REDUCE(list(r.review ORDER BY r.review), 'Is it worth its price?',
                  max_words := 20) AS verdict
FROM 'data/products.csv' AS p JOIN 'data/product_reviews.csv' AS r USING (product_id)
GROUP BY p.product_id, p.name
ORDER BY p.product_id
LIMIT 3;
