LOCK TABLE golden.sales IN ACCESS SHARE MODE;

LOCK TABLE golden.customers_daily IN SHARE ROW EXCLUSIVE MODE;

SELECT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z) AND EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_log AS l);

CREATE TEMPORARY TABLE tally_pending ON COMMIT DROP AS
SELECT part, day FROM tallykeeper.recomputed_customers_daily_log;

WITH consumed AS (DELETE FROM tallykeeper.recomputed_customers_daily_log AS l WHERE true RETURNING logged_at) SELECT count(*) AS entries, min(logged_at) AS oldest FROM consumed;

CREATE TEMPORARY TABLE tally_keys ON COMMIT DROP AS
SELECT f.day FROM (
SELECT DISTINCT dirty.day
FROM pg_temp.tally_pending AS dirty
WHERE dirty.day IS NOT NULL
) AS f WHERE NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE z.day = f.day);

CREATE TEMPORARY TABLE tally_desired ON COMMIT DROP AS
SELECT r.day, r.customers
FROM (SELECT array_agg(k.day ORDER BY k.day) AS day FROM pg_temp.tally_keys AS k) AS k, tallykeeper.recomputed_customers_daily_rows_of_keys(k.day) AS r;

CREATE TEMPORARY TABLE tally_current ON COMMIT DROP AS
SELECT d.ctid AS tally_place, d.tableoid AS tally_relation, d.day, d.customers
FROM golden.customers_daily AS d WHERE EXISTS (SELECT FROM pg_temp.tally_keys AS k WHERE k.day = d.day);

WITH tally_merged AS MATERIALIZED (
  SELECT h.tally_place, h.tally_relation, f.tally_fresh, f.day, f.customers
  FROM (SELECT g.*, true AS tally_fresh FROM pg_temp.tally_desired AS g) AS f
  FULL JOIN pg_temp.tally_current AS h ON h.day = f.day
  WHERE h.tally_place IS NULL OR f.tally_fresh IS NULL OR ROW(h.customers) IS DISTINCT FROM ROW(f.customers)
), tally_deleted AS (
  DELETE FROM golden.customers_daily AS d USING tally_merged AS m
  WHERE d.ctid = m.tally_place AND d.tableoid = m.tally_relation AND m.tally_fresh IS NULL
  RETURNING CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day
), tally_updated AS (
  UPDATE golden.customers_daily AS d SET customers = m.customers FROM tally_merged AS m
  WHERE d.ctid = m.tally_place AND d.tableoid = m.tally_relation AND m.tally_fresh
  RETURNING CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day
), tally_inserted AS (
  INSERT INTO golden.customers_daily AS d (day, customers)
  SELECT m.day, m.customers FROM tally_merged AS m
  WHERE m.tally_place IS NULL
  RETURNING CASE WHEN d.day IS NULL OR d.day < '0001-01-03Z'::timestamptz THEN '0001-01-01' WHEN d.day >= '9999-12-29Z'::timestamptz THEN '9999-12-31' ELSE to_char((d.day)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day
)
SELECT day, NULL::bigint AS consumed, sum(i) AS inserted, sum(u) AS updated,
  sum(r) AS deleted, NULL::timestamptz AS oldest
FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM tally_inserted
  UNION ALL SELECT day, 0, 1, 0 FROM tally_updated
  UNION ALL SELECT day, 0, 0, 1 FROM tally_deleted
) AS written GROUP BY day ORDER BY day;
