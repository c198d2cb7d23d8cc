SELECT LLM_CLASSIFY(body, ['praise', 'complaint']) AS kind, count(*) AS n FROM reviews
WHERE stars < 4 GROUP BY kind ORDER BY kind
