-- The same call in several places is one call.
--
-- The label appears in SELECT, in HAVING and in ORDER BY. It is the same question of the
-- same rows, so it is asked once per distinct text. llm_queries() shows what was paid.
--
-- Expect: topics of the web tickets of September with more than one ticket; then a row of
-- llm_queries() whose calls are the distinct texts, not a multiple of them.

SELECT LLM_CLASSIFY(body, ['problem', 'question', 'other']) AS topic, count(*) AS tickets
FROM 'data/support_tickets.csv'
WHERE channel = 'web' AND month(opened_at) = 9
GROUP BY LLM_CLASSIFY(body, ['problem', 'question', 'other'])
HAVING count(*) > 1 AND LLM_CLASSIFY(body, ['problem', 'question', 'other']) <> 'nothing'
ORDER BY tickets DESC, topic;

SELECT calls, failures, prompt_tokens, completion_tokens FROM llm_queries();
