SELECT t FROM (SELECT id, title AS t, LLM('Why?', title) AS why FROM movies UNION ALL SELECT id, body, LLM('Why?', body) FROM reviews WHERE LLM_FILTER('Good?', body)) AS u WHERE id < 10 LIMIT 50
