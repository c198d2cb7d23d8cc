-- Keep the answers: CREATE TABLE AS and INSERT store them like any other values.
--
-- Open a database file to keep them for longer: quackllm shop.duckdb -f ...
--
-- Expect: a table of kitchen products with an extracted number, which plain SQL then
-- reads without asking the model again; then one more row is added to it.

CREATE OR REPLACE TABLE kitchen AS
SELECT product_id, name, price,
       LLM('Power of the appliance in watts?', description, return_type := 'INTEGER') AS watts
FROM 'data/products.csv'
WHERE category = 'Kitchen';

SELECT count(*) AS products, count(watts) AS with_watts FROM kitchen;

INSERT INTO kitchen
SELECT product_id, name, price, LLM('Power of the appliance in watts?', description,
                                    return_type := 'INTEGER')
FROM 'data/products.csv'
WHERE name = 'Verdant Grow Light';

SELECT product_id, name, price, typeof(watts) AS type_of_watts FROM kitchen ORDER BY product_id;
