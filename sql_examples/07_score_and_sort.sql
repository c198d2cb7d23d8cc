-- Scores: a DOUBLE between 0 and 1 (or between min and max) to sort and average by.
--
-- Two columns go to the model; each is shown to it under its own name.
--
-- Expect: the ten tickets of October with the angriest tone on top. Rows that got no
-- score sort last.

SELECT ticket_id, customer, subject,
       round(LLM_SCORE('How angry is this customer? 0 is calm, 10 is furious.',
                       subject, body, min := 0, max := 10), 1) AS anger
FROM 'data/support_tickets.csv'
WHERE opened_at >= TIMESTAMP '2026-10-10'
ORDER BY anger DESC NULLS LAST, ticket_id
LIMIT 10;
