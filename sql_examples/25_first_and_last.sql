-- The first and the last of a group: LLM_FIRST, LLM_LAST and LLM_POSITION.
--
-- LLM_FIRST is an aggregate like max(), by a criterion in words: the value of the group that fits
-- it most. The model compares two values at a time; what was compared for LLM_FIRST need not be
-- compared again for LLM_LAST. A struct carries other columns of the row along.
--
-- Expect: of each product for the kitchen the review that complains most and the one that complains
-- least; the calls that this took for 54 reviews; of the tickets of each channel that came in
-- October the one to answer first; and the most technical of three words, without a group.

SELECT p.name, count(*) AS reviews,
       LLM_FIRST(r.review, 'which complains more') AS worst,
       LLM_LAST(r.review, 'which complains more') AS best
FROM 'data/products.csv' AS p JOIN 'data/product_reviews.csv' AS r USING (product_id)
WHERE p.category = 'Kitchen'
GROUP BY p.product_id, p.name
ORDER BY p.product_id;

SELECT calls, failures FROM llm_queries() ORDER BY statement DESC LIMIT 1;

SELECT channel, count(*) AS tickets,
       LLM_FIRST({'ticket_id': ticket_id, 'subject': subject}, 'which is more urgent').ticket_id
           AS answer_first
FROM 'data/support_tickets.csv'
WHERE month(opened_at) = 10
GROUP BY channel
ORDER BY channel;

SELECT words[LLM_POSITION(words, 'which word is more technical', 'first')] AS most_technical
FROM (VALUES (['garden', 'router', 'bread'])) AS t(words);
