SELECT title FROM movies WHERE LLM_FILTER('Sad?', synopsis) UNION ALL SELECT body FROM reviews WHERE LLM_FILTER('Kind?', body) LIMIT 500
