-- Change what is stored: UPDATE, DELETE and MERGE with calls.
--
-- A query finds the rows and makes the calls first, each distinct question once; the change then
-- writes its answers, in one transaction. RETURNING may ask about the rows that changed. Should a
-- call fail, its value is NULL, as in any query; with on_error := 'fail' nothing is changed.
--
-- Expect: the tickets that were deleted, with the mood of their texts; the plan of a MERGE; the rows
-- that it changed and added; and the table after it.

CREATE OR REPLACE TABLE queue AS
SELECT ticket_id, channel, subject, body, NULL::VARCHAR AS topic
FROM 'data/support_tickets.csv'
ORDER BY ticket_id
LIMIT 8;

UPDATE queue
SET topic = LLM_CLASSIFY(body, ['fault', 'delivery', 'advice'])
WHERE channel = 'chat';

DELETE FROM queue
WHERE channel = 'phone' AND LLM_FILTER('Is the customer only asking for information?', body)
RETURNING ticket_id, LLM_SENTIMENT(body) AS mood;

EXPLAIN
MERGE INTO queue USING (FROM 'data/support_tickets.csv' WHERE ticket_id <= 12) AS new
ON new.ticket_id = queue.ticket_id
WHEN MATCHED AND queue.topic IS NULL THEN
  UPDATE SET topic = LLM_CLASSIFY(new.body, ['fault', 'delivery', 'advice'])
WHEN NOT MATCHED AND new.ticket_id > 8 THEN
  INSERT (ticket_id, channel, subject, body)
  VALUES (new.ticket_id, new.channel, new.subject, new.body);

MERGE INTO queue USING (FROM 'data/support_tickets.csv' WHERE ticket_id <= 12) AS new
ON new.ticket_id = queue.ticket_id
WHEN MATCHED AND queue.topic IS NULL THEN
  UPDATE SET topic = LLM_CLASSIFY(new.body, ['fault', 'delivery', 'advice'])
WHEN NOT MATCHED AND new.ticket_id > 8 THEN
  INSERT (ticket_id, channel, subject, body)
  VALUES (new.ticket_id, new.channel, new.subject, new.body)
RETURNING merge_action, ticket_id, topic;

SELECT ticket_id, channel, topic, subject FROM queue ORDER BY ticket_id;
