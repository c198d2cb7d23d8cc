SELECT m.title, r.body FROM movies m LEFT JOIN reviews r ON r.movie_id = m.id AND LLM_FILTER('Kind?', r.body) WHERE m.year > 2005 AND LLM_FILTER('Sad?', m.title)
