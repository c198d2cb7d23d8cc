SELECT title, LLM('Why?', synopsis) AS why FROM movies WHERE year > 2000 USING SAMPLE 1000 ROWS
