-- Joins on what a model says.
--
-- LLM_FILTER in the condition of a join is asked once for each distinct pair that the other
-- conditions leave. Where a question is about one side at a time, two LLM_CLASSIFY that are
-- compared ask each row once. And where near texts are what is looked for, strategy := 'block'
-- asks only the pairs of near texts (LLM_EMBED), and a sample of the others, from which EXPLAIN
-- ANALYZE tells how many of the rows were found. strategy := 'batch_prompt' asks several pairs in a
-- prompt; EXPLAIN ANALYZE tells how often that agrees with pairs that are asked alone, and whether
-- answers depend on the place in the prompt.
--
-- Expect: tickets and products of the same kind; five pairs of reviews and products at most;
-- a plan that says how the products were compared; the pairs of products that go together; and a
-- plan that compares ten pairs in a prompt.

SELECT t.ticket_id, t.subject, p.name
FROM (FROM 'data/support_tickets.csv' LIMIT 10) AS t
JOIN (FROM 'data/products.csv' LIMIT 5) AS p
  ON LLM_CLASSIFY(t.body, ['kitchen', 'outdoor', 'electronics', 'other'])
   = LLM_CLASSIFY(p.description, ['kitchen', 'outdoor', 'electronics', 'other'])
ORDER BY ALL;

SELECT p.name, r.review
FROM 'data/products.csv' AS p JOIN 'data/product_reviews.csv' AS r
  ON p.product_id = r.product_id AND LLM_FILTER('Does {review} contradict {description}?',
                                                r.review, p.description)
LIMIT 5;

EXPLAIN ANALYZE
SELECT a.name, b.name
FROM 'data/products.csv' AS a JOIN 'data/products.csv' AS b
  ON a.product_id < b.product_id
 AND LLM_FILTER('Would one buy {a} and {b} together?', {'a': a.name, 'b': b.name},
                strategy := 'block');

SELECT a.name, b.name AS name_1
FROM 'data/products.csv' AS a JOIN 'data/products.csv' AS b
  ON a.product_id < b.product_id
 AND LLM_FILTER('Would one buy {a} and {b} together?', {'a': a.name, 'b': b.name},
                strategy := 'block')
ORDER BY ALL;

EXPLAIN ANALYZE
SELECT a.name, b.name
FROM 'data/products.csv' AS a JOIN 'data/products.csv' AS b
  ON a.product_id < b.product_id
 AND LLM_FILTER('Would one buy {a} and {b} together?', {'a': a.name, 'b': b.name},
                strategy := 'batch_prompt');
