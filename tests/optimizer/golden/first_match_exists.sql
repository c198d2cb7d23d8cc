SELECT title FROM movies WHERE EXISTS (SELECT 1 FROM reviews WHERE LLM_FILTER('Kind?', body))
