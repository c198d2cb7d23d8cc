select id, product, body
from {{ ref('raw_reviews') }}
where llm_filter('Is this a complaint?', body)
