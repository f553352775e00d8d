LOCK TABLE golden.sales IN ACCESS SHARE MODE;

SELECT CASE WHEN e.value < '0001-01-01T00:00:00Z'::timestamptz THEN '0001-01-01T00:00:00Z' WHEN e.value < '9999-12-31T00:00:00Z'::timestamptz THEN to_char((date_trunc('day', e.value, 'UTC') + interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END FROM (SELECT value FROM ((SELECT (day)::timestamp with time zone AS value FROM golden.customers_daily WHERE true AND (day) IS NOT NULL ORDER BY day OFFSET 100000 LIMIT 1)) AS ends ORDER BY value LIMIT 1) AS e;

WITH both_sides AS MATERIALIZED (
  SELECT day, customers, sum(tally_side) AS tally_surplus FROM (
    SELECT day, customers, 1 AS tally_side FROM (
SELECT d.day, d.customers FROM golden.customers_daily AS d
WHERE true AND NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pending_keys() AS k WHERE k.day = d.day)
    ) AS stored
    UNION ALL SELECT day, customers, -1 FROM (
SELECT r.day, r.customers FROM (
SELECT r.day, r.customers FROM (
SELECT s.day, s.customers FROM (
SELECT date_trunc('day', golden.sales.sold_at, 'UTC') AS day, count(DISTINCT golden.sales.customer) AS customers
FROM golden.sales GROUP BY date_trunc('day', golden.sales.sold_at, 'UTC')
) AS s WHERE true
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE z.day = r.day)
UNION ALL SELECT z.day, z.customers FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE true
) AS r
WHERE NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pending_keys() AS k WHERE k.day = r.day)
    ) AS expected
  ) AS rows GROUP BY day, customers
), differing AS (
  SELECT CASE WHEN b.day IS NULL OR b.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN b.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((b.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day, jsonb_build_object('day', b.day) AS key,
         jsonb_agg(jsonb_build_object('customers', b.customers)) FILTER (WHERE tally_surplus > 0) -> 0 AS stored,
         jsonb_agg(jsonb_build_object('customers', b.customers)) FILTER (WHERE tally_surplus < 0) -> 0 AS expected,
         row_number() OVER (ORDER BY b.day) AS place
  FROM both_sides AS b WHERE tally_surplus <> 0 GROUP BY b.day
)
SELECT 0 AS place, (SELECT count(*) FROM both_sides WHERE tally_surplus = 0) + count(*) AS compared,
       count(*) AS differing, array_agg(DISTINCT day) FILTER (WHERE day IS NOT NULL) AS days,
       NULL AS day, NULL AS key, NULL AS stored, NULL AS expected FROM differing
UNION ALL
SELECT place, NULL, NULL, NULL, day, key, stored, expected FROM differing WHERE place <= 100
ORDER BY place;
