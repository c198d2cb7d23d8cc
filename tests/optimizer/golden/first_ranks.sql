SELECT title, LLM('Why?', synopsis) AS why FROM movies
ORDER BY LLM_RANK('which sounds older', title) LIMIT 5
