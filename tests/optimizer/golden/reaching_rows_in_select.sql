SELECT title, LLM('Why?', synopsis) AS why FROM movies WHERE year > 2000 AND LLM_FILTER('Sad?', synopsis)
