WITH c AS (SELECT id, LLM('Why?', synopsis) AS why FROM movies)
SELECT c.why FROM c TABLESAMPLE reservoir(4 ROWS) REPEATABLE (7) JOIN reviews r ON r.id = c.id
