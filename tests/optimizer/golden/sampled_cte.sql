WITH c AS (SELECT id, LLM('Why?', synopsis) AS why FROM movies)
SELECT why, id FROM c USING SAMPLE reservoir(4 ROWS) REPEATABLE (7)
