-- Labels with descriptions: tell the model what each label means.
--
-- Instead of a list, give a struct (or a MAP) of label := description. The answer is the
-- label, the description is only read by the model.
--
-- Expect: the tickets that came in by phone and the first of those by web, each with a
-- queue to put it in.

SELECT ticket_id, channel, subject,
       LLM_CLASSIFY(body, {
           'today':     'danger, damage in a home, or a journey that starts within days',
           'this_week': 'something does not work, is missing or was charged wrongly',
           'whenever':  'a question, a wish or a compliment'
       }) AS queue
FROM 'data/support_tickets.csv'
WHERE channel = 'phone' OR (channel = 'web' AND ticket_id <= 40)
ORDER BY ticket_id;
