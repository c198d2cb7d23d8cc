SELECT id, mood FROM (SELECT id, title, LLM_SENTIMENT(synopsis) AS mood, LLM('Why?', title) AS why FROM movies WHERE LLM_FILTER('Sad?', synopsis)) AS d WHERE id > 10 LIMIT 5
