SELECT d.why, r.stars FROM (SELECT DISTINCT ON (year) year, LLM('Why?', synopsis) AS why FROM movies ORDER BY year, id) d, reviews r WHERE r.stars > 99
