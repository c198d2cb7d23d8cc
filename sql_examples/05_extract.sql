-- Extraction: from text to typed columns.
--
-- The second argument says which fields and of which type. The result is a real STRUCT:
-- e.weight_kg is a DOUBLE, so it can be compared and averaged. Where the text does not
-- say, the field is NULL. 'TYPE: words' adds a description for the model.
--
-- Expect: one row per outdoor product, the fields beside its name.

WITH facts AS (
    SELECT name,
           LLM_EXTRACT(description, {
               'material':   'VARCHAR: what it is mainly made of',
               'weight_kg':  'DOUBLE: weight of the product in kilograms',
               'waterproof': 'BOOLEAN'
           }) AS e
    FROM 'data/products.csv'
    WHERE category = 'Outdoor'
)
SELECT name, e.material, e.weight_kg, e.waterproof
FROM facts
ORDER BY name;
