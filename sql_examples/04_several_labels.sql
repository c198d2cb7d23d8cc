-- Several labels at once: output_mode := 'multi' returns a list, VARCHAR[].
--
-- A review may speak of quality and of delivery in one breath, or of nothing on the list.
-- The list is an ordinary DuckDB list: UNNEST it, count it, filter by list_contains.
--
-- Expect: how many of the unhappy reviews of 2026 mention each subject.

WITH tagged AS (
    SELECT review_id,
           LLM_CLASSIFY(review,
                        ['quality', 'delivery', 'safety', 'price', 'size', 'support'],
                        output_mode := 'multi') AS subjects
    FROM 'data/product_reviews.csv'
    WHERE rating <= 2 AND reviewed_on >= DATE '2026-01-01'
)
SELECT subject, count(*) AS reviews
FROM tagged, UNNEST(tagged.subjects) AS u(subject)
GROUP BY subject
ORDER BY reviews DESC, subject;
