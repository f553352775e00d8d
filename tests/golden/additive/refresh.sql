LOCK TABLE golden.sales IN ACCESS SHARE MODE;

LOCK TABLE golden.revenue_daily IN SHARE ROW EXCLUSIVE MODE;

SELECT pg_relation_size('golden.revenue_daily');

WITH consumed AS (
  DELETE FROM tallykeeper.additive_revenue_daily_log RETURNING day, product, lines, cents, logged_at
), changed AS MATERIALIZED (
  SELECT day, product, sum(lines) AS lines, sum(cents) AS cents FROM consumed GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0
), changed_at AS MATERIALIZED (
  SELECT c.day, c.product, coalesce(d.lines, 0) + c.lines AS lines, coalesce(d.cents, 0) + c.cents AS cents,
         d.ctid AS tally_place, d.tableoid AS tally_relation
  FROM changed AS c LEFT JOIN golden.revenue_daily AS d ON d.day = c.day AND d.product = c.product
), deleted AS (
  DELETE FROM golden.revenue_daily AS d USING changed_at AS c WHERE d.ctid = c.tally_place AND d.tableoid = c.tally_relation AND c.lines = 0
  RETURNING CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day
), updated AS (
  UPDATE golden.revenue_daily AS d SET lines = c.lines, cents = c.cents FROM changed_at AS c
  WHERE d.ctid = c.tally_place AND d.tableoid = c.tally_relation AND c.lines <> 0
  RETURNING CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day
), inserted AS (
  INSERT INTO golden.revenue_daily AS d (day, product, lines, cents)
  SELECT c.day, c.product, c.lines, c.cents FROM changed_at AS c
  WHERE c.lines <> 0 AND c.tally_place IS NULL
  RETURNING CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day
)
SELECT NULL AS day, count(*) AS consumed, 0 AS inserted, 0 AS updated, 0 AS deleted,
       min(logged_at) AS oldest FROM consumed
UNION ALL
SELECT day, NULL, sum(i), sum(u), sum(r), NULL FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM inserted
  UNION ALL SELECT day, 0, 1, 0 FROM updated
  UNION ALL SELECT day, 0, 0, 1 FROM deleted
) AS written GROUP BY day ORDER BY 1;
