SELECT title FROM movies WHERE LLM_FILTER('Sad?', synopsis) OR year > 2010
