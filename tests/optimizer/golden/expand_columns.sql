SELECT max(COLUMNS('i.*|y.*')), min(LLM_SCORE('Sad?', title)) AS least FROM movies WHERE LLM_FILTER('Long?', synopsis)
