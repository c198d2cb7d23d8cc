-- What the model sees: whole rows, expressions, and names of your own.
--
-- t.* sends every column of t. An expression is sent under its text, which may say little;
-- a struct literal gives it a better name. The names help the model; the values decide the
-- answer.
--
-- Expect: a gift hint for each garden product made from its whole row, then a yes or no
-- that is made from two named expressions.

SELECT p.name, LLM('For whom would this be a good present? Answer in one sentence.', p.*) AS hint
FROM 'data/products.csv' AS p
WHERE p.category = 'Garden'
ORDER BY p.name;

SELECT name,
       LLM_FILTER('Would the shipping cost more than a tenth of the price?',
                  {'price in euro': price, 'what it is': lower(name), 'about': description[:120]})
           AS expensive_to_ship
FROM 'data/products.csv'
WHERE category IN ('Garden', 'Sport')
ORDER BY name;
