SELECT id FROM reviews WHERE LLM_FILTER('Angry?', LLM_SUMMARIZE(body)) AND stars < 2
