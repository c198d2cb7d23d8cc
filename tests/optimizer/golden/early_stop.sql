SELECT title FROM movies WHERE LLM_FILTER('Sad?', synopsis) LIMIT 3
