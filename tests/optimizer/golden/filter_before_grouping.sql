SELECT movie_id, max(LLM_SCORE('How angry?', body)) AS angry FROM reviews GROUP BY movie_id
HAVING movie_id > 1 AND LLM_FILTER('Is it a movie of this century?', movie_id) AND count(*) > 1
