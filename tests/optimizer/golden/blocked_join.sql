SELECT m.title, r.body FROM movies m JOIN reviews r ON r.movie_id <> m.id AND LLM_FILTER('Fits?', m.synopsis, r.body, strategy := 'block')
