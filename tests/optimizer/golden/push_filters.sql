SELECT m.title, c.why FROM (SELECT movie_id, stars, LLM('Why?', body) AS why FROM reviews) AS c JOIN movies m ON m.id = c.movie_id WHERE c.stars > 3
