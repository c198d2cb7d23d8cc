SELECT title FROM movies WHERE year > 2010 OR LLM_FILTER('Sad?', synopsis)
