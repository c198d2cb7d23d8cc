SELECT m.title, LLM('Why {body}?', m.title, r.body) AS why
FROM movies m JOIN reviews r ON r.movie_id = m.id WHERE r.stars = 5 AND LLM_FILTER('Sad?', m.synopsis)
ORDER BY m.id, r.id
