SELECT * REPLACE (LLM('Shorter?', synopsis) AS synopsis) FROM movies ORDER BY 1 DESC LIMIT 4 OFFSET 2
