SELECT title, year FROM movies WHERE LLM_FILTER('Sad?', synopsis) ORDER BY year DESC LIMIT 3
