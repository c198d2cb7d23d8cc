SELECT movie_id, max(LLM_SCORE('How kind?', body)) AS best FROM reviews GROUP BY movie_id
