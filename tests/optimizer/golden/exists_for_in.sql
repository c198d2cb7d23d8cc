SELECT m.title FROM movies m WHERE m.year > 2000 AND m.id NOT IN (SELECT r.movie_id FROM reviews r WHERE LLM_FILTER('Does {body} contradict {synopsis}?', r.body, m.synopsis))
