SELECT m.title, r.body FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id AND LLM_FILTER('Angry?', r.body)
