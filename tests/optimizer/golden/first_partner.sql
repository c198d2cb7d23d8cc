SELECT m.title FROM movies m ANTI JOIN reviews r ON r.movie_id = m.id AND LLM_FILTER('Does {body} contradict {synopsis}?', r.body, m.synopsis)
