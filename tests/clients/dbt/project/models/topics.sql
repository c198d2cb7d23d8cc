{{ config(materialized='table') }}
select topic, count(*) as reviews, avg(satisfied) as satisfied
from {{ ref('classified') }}
group by topic
