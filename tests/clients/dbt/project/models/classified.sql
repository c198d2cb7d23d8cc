{{ config(materialized='table') }}
select
    id,
    product,
    written,
    llm_classify(body, ['price', 'quality', 'delivery']) as topic,
    llm_score('How satisfied is the writer?', body) as satisfied
from {{ ref('raw_reviews') }}
