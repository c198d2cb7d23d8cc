SELECT title, LLM('Why?', synopsis) AS why FROM movies
QUALIFY row_number() OVER (PARTITION BY genre ORDER BY id) = 1 AND LLM_FILTER('Sad?', title)
