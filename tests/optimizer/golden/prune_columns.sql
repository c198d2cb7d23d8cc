SELECT m.title, c.stars FROM (SELECT movie_id, stars, LLM('Why?', body) AS why FROM reviews WHERE LLM_FILTER('Good?', body)) AS c JOIN movies m ON m.id = c.movie_id
