SELECT id, LLM_SCORE('How good?', body) AS s FROM reviews WHERE LLM_SCORE('How good?', body) > 0.5 ORDER BY s, id
