SELECT DISTINCT stars FROM reviews WHERE LLM_FILTER('Kind?', body)
