WITH sad AS (SELECT * FROM movies WHERE LLM_FILTER('Sad?', synopsis)) SELECT sad.title, r.body FROM sad JOIN reviews r ON r.movie_id = sad.id WHERE r.stars > 3 LIMIT 500
