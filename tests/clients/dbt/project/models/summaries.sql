{{ config(materialized='incremental', unique_key='id') }}
select id, written, llm('Summarize in three words.', body) as summary
from {{ ref('raw_reviews') }}
{% if is_incremental() %}
where written > (select max(written) from {{ this }})
{% endif %}
