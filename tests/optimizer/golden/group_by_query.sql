SELECT s.synopsis IN (SELECT r.body FROM reviews r WHERE r.movie_id = 1 AND LLM_FILTER('About?', s.title, r.body)) AS g, count(*) AS n
FROM movies s GROUP BY (s.synopsis IN (SELECT r.body FROM reviews r WHERE r.movie_id = 1 AND LLM_FILTER('About?', s.title, r.body)))
