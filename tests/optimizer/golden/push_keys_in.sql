SELECT title FROM movies WHERE year > 2010 AND id IN (SELECT movie_id FROM reviews WHERE LLM_FILTER('Kind?', body))
