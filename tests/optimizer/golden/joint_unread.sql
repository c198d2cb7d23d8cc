SELECT title FROM (SELECT title, year, LLM_RANK('which sounds older', title) AS place FROM movies)
WHERE place <= 3 AND year > 2000
