-- A whole analysis in one statement: joins, extraction, classification, grouping.
--
-- Each product's description appears once per review after the join, and is still only
-- read once: the extraction asks for each distinct description. The classification needs
-- only the text of the review. Everything else is DuckDB.
--
-- Expect: for each material and reason for complaint, the number of reviews and the
-- average price of the products.

WITH complaints AS (
    SELECT p.product_id, p.price, p.description, r.review
    FROM 'data/product_reviews.csv' AS r
    JOIN 'data/products.csv' AS p USING (product_id)
    WHERE r.rating <= 2 AND p.category IN ('Kitchen', 'Toys')
),
understood AS (
    SELECT price,
           LLM_EXTRACT(description, {'material': 'VARCHAR: main material, one word'}) AS e,
           LLM_CLASSIFY(review, ['broke', 'danger', 'delivery', 'does not fit',
                                 'annoying']) AS reason
    FROM complaints
)
SELECT lower(e.material) AS material, reason, count(*) AS reviews, round(avg(price), 2) AS avg_price
FROM understood
GROUP BY ALL
ORDER BY reviews DESC, material, reason;
