SELECT title, why FROM (SELECT title, year, LLM('Why?', synopsis) AS why FROM movies) USING SAMPLE reservoir(4 ROWS) REPEATABLE (7)
