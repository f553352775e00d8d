LOCK TABLE golden.sales IN ACCESS SHARE MODE;

LOCK TABLE golden.revenue_daily IN SHARE ROW EXCLUSIVE MODE;

WITH consumed AS (DELETE FROM tallykeeper.additive_revenue_daily_log AS l WHERE true RETURNING logged_at) SELECT count(*) AS entries, min(logged_at) AS oldest FROM consumed;

SELECT FROM golden.revenue_daily LIMIT 1;

WITH inserted AS (
  INSERT INTO golden.revenue_daily AS d (day, product, lines, cents)
  SELECT f.day, f.product, f.lines, f.cents FROM (
SELECT rows.day, rows.product, sum(rows.lines) AS lines, sum(rows.cents) AS cents FROM (
  SELECT s.day, s.product, s.lines, s.cents FROM (
SELECT s.day, s.product, s.lines, s.cents FROM (
SELECT date_trunc('day', golden.sales.sold_at, 'UTC') AS day, golden.sales.product AS product, count(*) AS lines, coalesce(sum(golden.sales.cents), 0) AS cents
FROM golden.sales GROUP BY date_trunc('day', golden.sales.sold_at, 'UTC'), golden.sales.product
) AS s WHERE true
  ) AS s
  UNION ALL SELECT p.day, p.product, p.lines, p.cents FROM tallykeeper.additive_revenue_daily_pruned AS p WHERE true
) AS rows GROUP BY rows.day, rows.product HAVING sum(rows.lines) <> 0
  ) AS f RETURNING date_trunc('day', d.day, 'UTC') AS day
), d AS (
  SELECT day, count(*) AS keys FROM inserted GROUP BY day
)
SELECT CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day, NULL AS consumed, sum(keys) AS inserted, 0 AS updated,
       0 AS deleted, NULL AS oldest FROM d GROUP BY 1 ORDER BY 1;

UPDATE tallykeeper.tally_state SET rows=(SELECT count(*) AS count_1
FROM golden.revenue_daily), built_at=now(), refreshed_at=now(), seconds=%(seconds)s, pending_consumed=%(pending_consumed)s::BIGINT, keys_changed=%(keys_changed)s::BIGINT WHERE tallykeeper.tally_state.tally = %(tally_1)s::VARCHAR RETURNING tallykeeper.tally_state.rows, tallykeeper.tally_state.refreshed_at;
