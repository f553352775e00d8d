LOCK TABLE golden.sales IN ACCESS SHARE MODE;

SELECT CASE WHEN e.value < '0001-01-01T00:00:00Z'::timestamptz THEN '0001-01-01T00:00:00Z' WHEN e.value < '9999-12-31T00:00:00Z'::timestamptz THEN to_char((date_trunc('day', e.value, 'UTC') + interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END FROM (SELECT value FROM ((SELECT (day)::timestamp with time zone AS value FROM golden.revenue_daily WHERE true AND (day) IS NOT NULL ORDER BY day OFFSET 100000 LIMIT 1)) AS ends ORDER BY value LIMIT 1) AS e;

WITH both_sides AS MATERIALIZED (
  SELECT day, product, lines, cents, sum(tally_side) AS tally_surplus FROM (
    SELECT day, product, lines, cents, 1 AS tally_side FROM (
SELECT rows.day, rows.product, (sum(rows.lines))::BIGINT AS lines, (sum(rows.cents))::BIGINT AS cents FROM (
  SELECT d.day, d.product, d.lines, d.cents, true AS tally_is_stored FROM golden.revenue_daily AS d WHERE true
  UNION ALL SELECT d.day, d.product, d.lines, d.cents, false FROM tallykeeper.additive_revenue_daily_log AS d WHERE true
) AS rows GROUP BY rows.day, rows.product
HAVING sum(rows.lines) <> 0 OR bool_or(rows.tally_is_stored AND rows.lines = 0)
    ) AS stored
    UNION ALL SELECT day, product, lines, cents, -1 FROM (
SELECT rows.day, rows.product, sum(rows.lines) AS lines, sum(rows.cents) AS cents FROM (
  SELECT s.day, s.product, s.lines, s.cents FROM (
SELECT s.day, s.product, s.lines, s.cents FROM (
SELECT date_trunc('day', golden.sales.sold_at, 'UTC') AS day, golden.sales.product AS product, count(*) AS lines, coalesce(sum(golden.sales.cents), 0) AS cents
FROM golden.sales GROUP BY date_trunc('day', golden.sales.sold_at, 'UTC'), golden.sales.product
) AS s WHERE true
  ) AS s
  UNION ALL SELECT p.day, p.product, p.lines, p.cents FROM tallykeeper.additive_revenue_daily_pruned AS p WHERE true
) AS rows GROUP BY rows.day, rows.product HAVING sum(rows.lines) <> 0
    ) AS expected
  ) AS rows GROUP BY day, product, lines, cents
), differing AS (
  SELECT CASE WHEN b.day IS NULL OR b.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN b.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((b.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day, jsonb_build_object('day', b.day, 'product', b.product) AS key,
         jsonb_agg(jsonb_build_object('lines', b.lines, 'cents', b.cents)) FILTER (WHERE tally_surplus > 0) -> 0 AS stored,
         jsonb_agg(jsonb_build_object('lines', b.lines, 'cents', b.cents)) FILTER (WHERE tally_surplus < 0) -> 0 AS expected,
         row_number() OVER (ORDER BY b.day, b.product) AS place
  FROM both_sides AS b WHERE tally_surplus <> 0 GROUP BY b.day, b.product
)
SELECT 0 AS place, (SELECT count(*) FROM both_sides WHERE tally_surplus = 0) + count(*) AS compared,
       count(*) AS differing, array_agg(DISTINCT day) FILTER (WHERE day IS NOT NULL) AS days,
       NULL AS day, NULL AS key, NULL AS stored, NULL AS expected FROM differing
UNION ALL
SELECT place, NULL, NULL, NULL, day, key, stored, expected FROM differing WHERE place <= 100
ORDER BY place;
