SELECT LLM('Describe', m.*) AS d FROM movies m WHERE m.id < 5
