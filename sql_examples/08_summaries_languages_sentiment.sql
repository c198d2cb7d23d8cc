-- Ready-made functions: summary, translation and sentiment.
--
-- They need no prompt. LLM_SENTIMENT answers 'positive', 'negative' or 'neutral'.
--
-- Expect: first the longest ticket of all in a few sentences, then the tickets that are
-- not in English with a translation, then the mood of the reviews of one product beside
-- the stars that their writers gave.

SELECT ticket_id, length(body) AS characters, LLM_SUMMARIZE(body) AS summary
FROM 'data/support_tickets.csv'
ORDER BY length(body) DESC NULLS LAST
LIMIT 1;

SELECT ticket_id, country, subject, LLM_TRANSLATE(body, 'English') AS in_english
FROM 'data/support_tickets.csv'
WHERE subject IN ('Fuite', 'Vraag', 'Kündigung Sona Plus', 'Zwrot', 'Consegna', '接続できません')
ORDER BY ticket_id;

SELECT rating, review, LLM_SENTIMENT(review) AS mood
FROM 'data/product_reviews.csv'
WHERE product_id = 21
ORDER BY rating DESC, review_id;
