LOCK TABLE golden.sales IN ACCESS SHARE MODE;

LOCK TABLE golden.customers_daily IN SHARE ROW EXCLUSIVE MODE;

SELECT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z) AND EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_log AS l);

WITH consumed AS (DELETE FROM tallykeeper.recomputed_customers_daily_log AS l WHERE true RETURNING logged_at) SELECT count(*) AS entries, min(logged_at) AS oldest FROM consumed;

SELECT FROM golden.customers_daily LIMIT 1;

WITH inserted AS (
  INSERT INTO golden.customers_daily AS d (day, customers)
  SELECT f.day, f.customers FROM (
SELECT r.day, r.customers FROM (
SELECT s.day, s.customers FROM (
SELECT date_trunc('day', golden.sales.sold_at, 'UTC') AS day, count(DISTINCT golden.sales.customer) AS customers
FROM golden.sales GROUP BY date_trunc('day', golden.sales.sold_at, 'UTC')
) AS s WHERE true
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE z.day = r.day)
UNION ALL SELECT z.day, z.customers FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE true
  ) AS f RETURNING date_trunc('day', d.day, 'UTC') AS day
), d AS (
  SELECT day, count(*) AS keys FROM inserted GROUP BY day
)
SELECT CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day, NULL AS consumed, sum(keys) AS inserted, 0 AS updated,
       0 AS deleted, NULL AS oldest FROM d GROUP BY 1 ORDER BY 1;

UPDATE tallykeeper.tally_state SET rows=(SELECT count(*) AS count_1
FROM golden.customers_daily), built_at=now(), refreshed_at=now(), seconds=%(seconds)s, pending_consumed=%(pending_consumed)s::BIGINT, keys_changed=%(keys_changed)s::BIGINT WHERE tallykeeper.tally_state.tally = %(tally_1)s::VARCHAR RETURNING tallykeeper.tally_state.rows, tallykeeper.tally_state.refreshed_at;
