-- Free prompts: LLM(prompt, columns...) says whatever you ask, in the type you ask for.
--
-- {name} in a prompt stands for an argument. Without return_type the answer is VARCHAR;
-- with it the answer is of that type or NULL, never text that happens to look like it.
--
-- Expect: a slogan for each toy, then the number of pieces in its box as an INTEGER that
-- can be added up.

SELECT name, LLM('Write a slogan of at most eight words for {name}, which is: {description}',
                 name, description) AS slogan
FROM 'data/products.csv'
WHERE category = 'Toys'
ORDER BY name;

SELECT sum(pieces) AS pieces_in_all_boxes, count(pieces) AS known, count(*) AS products
FROM (
    SELECT LLM('How many pieces or parts does this toy have?', description,
               return_type := 'INTEGER') AS pieces
    FROM 'data/products.csv'
    WHERE category = 'Toys'
);
