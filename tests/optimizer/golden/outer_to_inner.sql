SELECT m.title, r.body FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id AND LLM_FILTER('Fits?', r.body, m.title) WHERE r.stars > 3
