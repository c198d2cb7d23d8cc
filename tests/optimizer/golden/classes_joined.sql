SELECT m.title, r.body FROM movies m JOIN reviews r ON LLM_CLASSIFY(m.synopsis, ['animals', 'machines', 'people']) = LLM_CLASSIFY(r.body, ['animals', 'machines', 'people'])
