SELECT title, LLM_RANK('which sounds older', title) AS place FROM movies WHERE year > 2000
QUALIFY LLM_RANK('which sounds older', title) <= 3 AND LLM_FILTER('Sad?', synopsis)
