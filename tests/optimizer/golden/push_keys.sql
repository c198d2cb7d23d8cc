WITH c AS (SELECT movie_id, LLM('Why?', body) AS why FROM reviews) SELECT m.title, c.why FROM movies m JOIN c ON c.movie_id = m.id WHERE m.year > 2015
