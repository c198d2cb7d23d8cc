SELECT movie_id, LLM_SUMMARIZE(string_agg(body, ' ' ORDER BY id)) AS summary
FROM reviews GROUP BY movie_id HAVING count(*) > 2 ORDER BY movie_id
