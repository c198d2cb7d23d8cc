-- Rank and top-k: LLM_RANK.
--
-- The model is never asked for a number, only which of two rows fits the criterion more; the
-- ranks follow from that, 1 for the row that fits most. It stands where a window function may.
-- With LIMIT or QUALIFY only the first ranks are found out, with far fewer comparisons than a
-- sort takes: the second statement shows how many calls the first one made.
--
-- Expect: the three angriest tickets, the angriest first; the calls that this took for 40
-- tickets; the products in the order of how hard they are to carry home; and the two reviews
-- of at most 2 stars that complain the most.

SELECT ticket_id, customer, subject
FROM 'data/support_tickets.csv'
ORDER BY LLM_RANK('whose customer is angrier', subject, body)
LIMIT 3;

SELECT calls, failures FROM llm_queries() ORDER BY statement DESC LIMIT 1;

SELECT name, LLM_RANK('which is harder to carry home', name, description) AS place
FROM 'data/products.csv'
ORDER BY place;

SELECT review_id, rating, LLM_RANK('which complains more', review) AS place
FROM 'data/product_reviews.csv'
WHERE rating <= 2
QUALIFY place <= 2
ORDER BY place;
