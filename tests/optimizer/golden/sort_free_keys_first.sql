SELECT *, LLM_SCORE('How sad?', title) AS sad FROM movies ORDER BY genre, sad DESC, id LIMIT 3
