SELECT LLM_CLASSIFY(body, ['good', 'bad']) AS opinion, stars, count(*) AS n FROM reviews GROUP BY ROLLUP (opinion, stars)
