SELECT max(stars) AS best FROM reviews WHERE LLM_FILTER('Kind?', body)
