SELECT id, CASE WHEN stars > 3 THEN 'good' WHEN LLM_FILTER('Angry?', body) THEN LLM('Why?', body) END AS mood
FROM reviews
