-- Budgets: a statement that costs more than you allow is not begun, or gives what it could.
--
-- A budget is of calls, tokens, dollars or seconds; of one statement (llm_max_calls) or of all
-- since connect (llm_connection_max_calls). With 'partial', what is not decided is NULL and is
-- listed in llm_errors(). Run again without the budget, only the rest is asked.
--
-- Expect: twelve tickets of which five have a topic; how many were left out; then all twelve.

SET llm_max_calls = 5;
SET llm_on_budget = 'partial';

SELECT ticket_id, LLM_CLASSIFY(subject, ['billing', 'delivery', 'defect']) AS topic
FROM 'data/support_tickets.csv'
WHERE subject IS NOT NULL
ORDER BY ticket_id
LIMIT 12;

SELECT cause, count(*) AS questions FROM llm_errors() GROUP BY ALL;

RESET llm_max_calls;

SELECT ticket_id, LLM_CLASSIFY(subject, ['billing', 'delivery', 'defect']) AS topic
FROM 'data/support_tickets.csv'
WHERE subject IS NOT NULL
ORDER BY ticket_id
LIMIT 12;
