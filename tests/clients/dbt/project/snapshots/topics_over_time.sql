{% snapshot topics_over_time %}
{{ config(target_schema='analytics', unique_key='id', strategy='check', check_cols=['topic']) }}
select id, topic from {{ ref('classified') }}
{% endsnapshot %}
