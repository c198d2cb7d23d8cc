select * from {{ ref('classified') }} where satisfied not between 0 and 1
