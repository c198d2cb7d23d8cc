-- Classification: exactly one of the labels you list, never anything else.
--
-- Forty chat messages are sorted into six topics. Some customers sent the very same words
-- ("Where is my order?"): each distinct text is asked once, and everyone who sent it gets
-- that answer. A message without text (NULL) gets NULL without asking.
--
-- Expect: one row per chat message; topic is one of the six labels or NULL.

SELECT ticket_id, body,
       LLM_CLASSIFY(body, ['billing', 'delivery', 'defect', 'question',
                           'cancellation', 'praise']) AS topic
FROM 'data/support_tickets.csv'
WHERE channel = 'chat'
ORDER BY topic, ticket_id;
