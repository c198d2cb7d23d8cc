SELECT title, LLM('Why?', synopsis) AS why FROM movies ORDER BY LLM_SCORE('How sad?', title) DESC, id LIMIT 3
