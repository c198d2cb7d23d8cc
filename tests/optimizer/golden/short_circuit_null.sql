SELECT id FROM movies WHERE year < LLM('When is it set?', synopsis, return_type := 'INTEGER')
