-- When calls fail: NULL and a record, a value of your own, or a stop.
--
-- on_error := 'error' stops the statement at the first failure. default_value gives failed calls
-- a value that you choose; they are recorded all the same. To try the failed rows again, run
-- the statement again: answers are remembered, failures are not.
--
-- Expect: six tickets with an urgency from 0 to 10 (-1 where the call failed), and what failed.

SELECT ticket_id, subject,
       LLM_SCORE('How urgent is this?', subject, max := 10, default_value := -1) AS urgency
FROM 'data/support_tickets.csv'
WHERE subject IS NOT NULL
ORDER BY ticket_id
LIMIT 6;

SELECT function, cause, message, preview, attempts, status, recorded_at FROM llm_errors();
