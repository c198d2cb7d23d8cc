WITH sad AS (SELECT * FROM movies WHERE LLM_FILTER('Sad?', synopsis))
SELECT genre, count(*) AS n, LLM('Name it', genre) AS name FROM sad GROUP BY genre ORDER BY genre
