SELECT title FROM movies WHERE LLM_FILTER('Sad?', synopsis) AND LLM_FILTER('Old?', title)
