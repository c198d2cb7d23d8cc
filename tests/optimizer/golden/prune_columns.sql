SELECT id, n FROM (SELECT id, LLM('Why?', body) AS why, stars + 1 AS n FROM reviews WHERE LLM_FILTER('Angry?', body))
