-- Tables about quackllm itself, to SELECT from like any table.
--
-- llm_functions(): what can be called. llm_settings(): what can be set. llm_models(): where
-- answers come from. llm_queries(): what this session ran and paid. llm_errors(): which
-- answers are NULL because something failed, and why.
--
-- Expect: the functions, the settings, a small statement that runs, and then its record.

SELECT * FROM llm_functions() ORDER BY ALL;

SELECT * FROM llm_settings() ORDER BY ALL;

SELECT name, LLM_CLASSIFY(name, ['indoors', 'outdoors']) AS used
FROM 'data/products.csv'
WHERE category = 'Sport'
ORDER BY name;

SELECT * FROM llm_models();

SELECT * FROM llm_queries();

SELECT * FROM llm_errors();
