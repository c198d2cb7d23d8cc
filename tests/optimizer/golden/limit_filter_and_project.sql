SELECT *, LLM('Why?', synopsis) AS why FROM movies WHERE LLM_FILTER('Sad?', synopsis) LIMIT 4
