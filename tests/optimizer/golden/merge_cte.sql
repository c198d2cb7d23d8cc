WITH c AS (SELECT id, stars, LLM('Why?', body) AS why FROM reviews) SELECT id, why FROM c WHERE stars > 3
