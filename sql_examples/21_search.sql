-- Search a table by a question, and answer from what is found: LLM_SEARCH.
--
-- LLM_SEARCH stands in FROM and gives the rows that fit a question best, by their words and
-- by their meaning, with a rank. Its question may be a column of what stands before it: the
-- last statement finds reviews for several questions and answers each from them (RAG).
--
-- Expect: first five tickets about broken screens or devices; then two reviews for each of
-- three questions; and at last one answer for each question, of a very small model.

SELECT rank, subject, body
FROM LLM_SEARCH('data/support_tickets.csv', 'body', 'the display does not work', k := 5)
ORDER BY rank;

CREATE OR REPLACE TEMP TABLE questions AS
FROM (VALUES (1, 'Does it keep the rain out?'), (2, 'Is it a good present?'),
             (3, 'How long does the battery last?')) AS q(id, question);

SELECT q.question, r.rank, r.review
FROM questions AS q, LLM_SEARCH('data/product_reviews.csv', 'review', q.question, k := 2) AS r
ORDER BY q.id, r.rank;

SELECT q.question,
       LLM('Answer {question} in one sentence, from the reviews only.', q.question,
           {'reviews': list(r.review ORDER BY r.rank)}, max_tokens := 40) AS answer
FROM questions AS q, LLM_SEARCH('data/product_reviews.csv', 'review', q.question, k := 3) AS r
GROUP BY q.id, q.question
ORDER BY q.id;
