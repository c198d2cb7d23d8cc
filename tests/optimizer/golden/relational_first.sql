SELECT title FROM movies WHERE LLM_FILTER('For children?', synopsis) AND year > 2000
