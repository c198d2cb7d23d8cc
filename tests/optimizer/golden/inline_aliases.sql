SELECT id, LLM_CLASSIFY(body, ['a', 'b']) AS c FROM reviews WHERE c = 'a' AND stars > 2
