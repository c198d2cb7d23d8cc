SELECT title, LLM_SCORE('How sad?', synopsis) AS s FROM movies ORDER BY s DESC, id LIMIT 3
