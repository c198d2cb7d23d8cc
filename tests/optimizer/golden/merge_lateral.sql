SELECT m.title, s.why FROM movies m, LATERAL (SELECT LLM('Why?', m.synopsis) AS why, LLM('Who?', m.synopsis) AS who) s WHERE LLM_FILTER('Sad?', m.title) AND m.id > 10
