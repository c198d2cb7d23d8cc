SELECT title FROM movies m WHERE m.year > 2000 AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.movie_id = m.id AND LLM_FILTER('Kind?', r.body))
