SELECT title, LLM('Why?', synopsis) AS why FROM movies ORDER BY year DESC LIMIT 4
