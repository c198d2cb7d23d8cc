SELECT LLM('x', title) AS t FROM movies WHERE year < 2000 UNION ALL SELECT LLM('x', body) FROM reviews WHERE stars = 0
