-- Extraction of nested values: a list of structs, unfolded into rows.
--
-- Types nest as they do in DuckDB. Here each product gives a list of its parts and a
-- struct of its care instructions; UNNEST turns the list into one row per part.
--
-- Expect: one row per part that the model found in three product descriptions, with how
-- many of it there are and how it may be washed.

WITH facts AS (
    SELECT name,
           LLM_EXTRACT(description, {
               'parts': 'STRUCT(part VARCHAR, quantity INTEGER)[]: what is in the box',
               'care':  {'washable': 'BOOLEAN', 'advice': 'VARCHAR'}
           }) AS e
    FROM 'data/products.csv'
    WHERE name IN ('Pippa Wooden Train Set', 'Nest Mixing Bowls, Set of 4',
                   'Otter Plush, Large')
)
SELECT name, p.part, p.quantity, e.care.washable
FROM facts, UNNEST(e.parts) AS u(p)
ORDER BY name, p.part;
