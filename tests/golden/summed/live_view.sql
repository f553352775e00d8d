CREATE TABLE summed.sales_daily (
	day TIMESTAMP WITH TIME ZONE NOT NULL,
	product INTEGER NOT NULL,
	lines BIGINT NOT NULL,
	cents BIGINT NOT NULL,
	PRIMARY KEY (day, product)
);

CREATE TABLE tallykeeper.summed_sales_daily_log (
	day TIMESTAMP WITH TIME ZONE,
	product INTEGER,
	lines BIGINT NOT NULL,
	cents BIGINT NOT NULL,
	logged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE TABLE tallykeeper.summed_sales_daily_pruned (day TIMESTAMP WITH TIME ZONE, product INTEGER, lines numeric NOT NULL, cents numeric NOT NULL);

CREATE UNIQUE INDEX ON tallykeeper.summed_sales_daily_pruned (day, product) NULLS NOT DISTINCT;

CREATE OR REPLACE FUNCTION tallykeeper.summed_sales_daily_from_sources() RETURNS TABLE (day TIMESTAMP WITH TIME ZONE, product INTEGER, lines BIGINT, cents BIGINT)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT (s.day)::TIMESTAMP WITH TIME ZONE AS day, CASE WHEN s.product BETWEEN -2147483648 AND 2147483647 THEN (s.product)::INTEGER END AS product, CASE WHEN s.lines BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (s.lines)::BIGINT END AS lines, CASE WHEN s.cents BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (s.cents)::BIGINT END AS cents FROM (
SELECT rows.day, rows.product, sum(rows.lines) AS lines, sum(rows.cents) AS cents FROM (
  SELECT s.day, s.product, s.lines, s.cents FROM (
SELECT s.day, s.product, s.lines, s.cents
FROM tallykeeper.summed_sales_daily_definition AS s
  ) AS s
  UNION ALL SELECT p.day, p.product, p.lines, p.cents FROM tallykeeper.summed_sales_daily_pruned AS p WHERE true
) AS rows GROUP BY rows.day, rows.product HAVING sum(rows.lines) <> 0
) AS s WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass))
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.summed_sales_daily_held_rows() RETURNS TABLE (day TIMESTAMP WITH TIME ZONE, product INTEGER, lines BIGINT, cents BIGINT)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT rows.day, rows.product, CASE WHEN sum(rows.lines) BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (sum(rows.lines))::BIGINT END AS lines, CASE WHEN sum(rows.cents) BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (sum(rows.cents))::BIGINT END AS cents FROM (
  SELECT k.day, k.product, m.lines, m.cents FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (day TIMESTAMP WITH TIME ZONE, product INTEGER), jsonb_to_record(q.rows -> 0) AS m (lines numeric, cents numeric) WHERE q.tally = 'summed.sales_daily'
  UNION ALL SELECT * FROM (
  SELECT day, product, lines, cents FROM tallykeeper.summed_sales_daily_log WHERE false
  UNION ALL SELECT l.day, l.product, l.lines, l.cents FROM tallykeeper.summed_sales_daily_log AS l
) AS p WHERE EXISTS (SELECT FROM (SELECT k.day, k.product FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (day TIMESTAMP WITH TIME ZONE, product INTEGER) WHERE q.tally = 'summed.sales_daily') AS held_key WHERE held_key.day = p.day AND held_key.product = p.product)
) AS rows GROUP BY rows.day, rows.product HAVING sum(rows.lines) <> 0
$body$;

CREATE OR REPLACE VIEW tallykeeper.summed_sales_daily_definition AS
SELECT date_trunc('day', s.sold_at, 'UTC') AS day, s.product, count(*) AS lines, sum(s.cents) AS cents FROM golden.sales AS s GROUP BY 1, 2;

CREATE OR REPLACE VIEW summed.sales_daily_live AS
SELECT rows.day, rows.product, CASE WHEN sum(rows.lines) BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (sum(rows.lines))::BIGINT END AS lines, CASE WHEN sum(rows.cents) BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (sum(rows.cents))::BIGINT END AS cents FROM (
  SELECT d.day, d.product, d.lines, d.cents FROM summed.sales_daily AS d
  UNION ALL SELECT l.day, l.product, l.lines, l.cents FROM tallykeeper.summed_sales_daily_log AS l
) AS rows WHERE NOT EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('summed.sales_daily')) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('summed.sales_daily'::regclass)) OR tallykeeper.require_unbroken('summed.sales_daily'::regclass)) AND NOT EXISTS (SELECT FROM (SELECT k.day, k.product FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (day TIMESTAMP WITH TIME ZONE, product INTEGER) WHERE q.tally = 'summed.sales_daily') AS held_key WHERE held_key.day = rows.day AND held_key.product = rows.product) GROUP BY rows.day, rows.product HAVING sum(rows.lines) <> 0
UNION ALL SELECT h.day, h.product, h.lines, h.cents FROM tallykeeper.summed_sales_daily_held_rows() AS h WHERE NOT EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('summed.sales_daily')) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('summed.sales_daily'::regclass)) OR tallykeeper.require_unbroken('summed.sales_daily'::regclass)) AND EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'summed.sales_daily')
UNION ALL SELECT s.day, s.product, s.lines, s.cents FROM tallykeeper.summed_sales_daily_from_sources() AS s WHERE EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('summed.sales_daily'));
