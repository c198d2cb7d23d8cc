SELECT count(*) AS n FROM (SELECT * FROM reviews ORDER BY id LIMIT 20) AS r WHERE LLM_FILTER('Angry?', r.body)
