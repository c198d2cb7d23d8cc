SELECT * FROM (
    SELECT title, LLM('Why?', synopsis) AS why FROM movies WHERE LLM_FILTER('fun?', title)
) AS d WHERE 1 = 0
