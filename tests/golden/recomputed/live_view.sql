CREATE TABLE tallykeeper.recomputed_customers_daily_log (
	part SMALLINT NOT NULL,
	day TIMESTAMP WITH TIME ZONE,
	logged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE TABLE tallykeeper.recomputed_customers_daily_pruned (day TIMESTAMP WITH TIME ZONE, customers BIGINT, tally_frozen_at timestamptz NOT NULL DEFAULT now(), tally_changed_at timestamptz);

CREATE UNIQUE INDEX ON tallykeeper.recomputed_customers_daily_pruned (day) NULLS NOT DISTINCT;

CREATE OR REPLACE FUNCTION tallykeeper.recomputed_customers_daily_from_sources() RETURNS TABLE (day TIMESTAMP WITH TIME ZONE, customers BIGINT)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT (s.day)::TIMESTAMP WITH TIME ZONE AS day, CASE WHEN s.customers BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (s.customers)::BIGINT END AS customers FROM (
SELECT r.day, r.customers FROM (
SELECT date_trunc('day', golden.sales.sold_at, 'UTC') AS day, count(DISTINCT golden.sales.customer) AS customers
FROM golden.sales GROUP BY date_trunc('day', golden.sales.sold_at, 'UTC')
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE z.day = r.day)
UNION ALL SELECT z.day, z.customers FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE true
) AS s WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass))
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.recomputed_customers_daily_pending_keys() RETURNS TABLE (day TIMESTAMP WITH TIME ZONE)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
(SELECT f.day FROM (
SELECT DISTINCT dirty.day
FROM tallykeeper.recomputed_customers_daily_log AS dirty
WHERE dirty.day IS NOT NULL
) AS f WHERE NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE z.day = f.day))
UNION SELECT k.day FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (day TIMESTAMP WITH TIME ZONE) WHERE q.tally = 'recomputed.customers_daily'
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.recomputed_customers_daily_rows_of_keys(TIMESTAMP WITH TIME ZONE[]) RETURNS TABLE (day TIMESTAMP WITH TIME ZONE, customers BIGINT)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off SET plan_cache_mode TO force_custom_plan
AS $body$
#variable_conflict use_column
DECLARE
  tally_run record;
BEGIN
  FOR tally_run IN
SELECT min(at) AS first_instant, max(at) + (INTERVAL '1 day' - INTERVAL '1 microsecond') AS last_instant,
       min(place) AS first_place, max(place) AS last_place
FROM (
  SELECT at, place, count(*) FILTER (WHERE apart) OVER (ORDER BY place) AS run
  FROM (
    SELECT at, place, gap > 259200 AND row_number() OVER (ORDER BY gap DESC) < 500 AS apart
    FROM (
      SELECT at, place, CASE WHEN at IS DISTINCT FROM before
        THEN coalesce(extract(epoch FROM at) - extract(epoch FROM before), 0) ELSE 0 END AS gap
      FROM (
        SELECT at, place, lag(at) OVER (ORDER BY place) AS before
        FROM unnest($1) WITH ORDINALITY AS w (at, place)
      ) AS pairs
    ) AS gaps
  ) AS marked
) AS runs WHERE at IS NOT NULL GROUP BY run ORDER BY run
  LOOP
    RETURN QUERY WITH run_keys AS MATERIALIZED (
SELECT k.day FROM unnest($1[tally_run.first_place:tally_run.last_place]) AS k (day)
)
SELECT s.day::TIMESTAMP WITH TIME ZONE, s.customers::BIGINT FROM (
SELECT r.day, r.customers FROM (
SELECT s.day, s.customers FROM (
SELECT date_trunc('day', golden.sales.sold_at, 'UTC') AS day, count(DISTINCT golden.sales.customer) AS customers
FROM golden.sales
WHERE golden.sales.sold_at >= tally_run.first_instant AND golden.sales.sold_at <= tally_run.last_instant GROUP BY date_trunc('day', golden.sales.sold_at, 'UTC')
) AS s WHERE EXISTS (SELECT FROM run_keys AS k WHERE k.day = s.day)
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE z.day = r.day)
UNION ALL SELECT z.day, z.customers FROM tallykeeper.recomputed_customers_daily_pruned AS z WHERE EXISTS (SELECT FROM run_keys AS k WHERE k.day = z.day)
) AS s;
  END LOOP;
  PERFORM ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass));
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.recomputed_customers_daily_lenient_rows(TIMESTAMP WITH TIME ZONE[]) RETURNS TABLE (day TIMESTAMP WITH TIME ZONE, customers BIGINT, tally_reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off SET plan_cache_mode TO force_custom_plan
AS $body$

#variable_conflict use_column
DECLARE
  tally_middle integer := cardinality($1) / 2;
BEGIN
  BEGIN
    RETURN QUERY SELECT r.*, NULL::text FROM tallykeeper.recomputed_customers_daily_rows_of_keys($1) AS r;
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN
    IF tally_middle = 0 THEN
      RETURN QUERY SELECT $1[1], NULL::BIGINT, SQLSTATE || ': ' || SQLERRM;
      RETURN;
    END IF;
  END;
  RETURN QUERY SELECT r.* FROM tallykeeper.recomputed_customers_daily_lenient_rows($1[:tally_middle]) AS r;
  RETURN QUERY SELECT r.* FROM tallykeeper.recomputed_customers_daily_lenient_rows($1[tally_middle + 1:]) AS r;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.recomputed_customers_daily_live_sources() RETURNS TABLE (day TIMESTAMP WITH TIME ZONE, customers BIGINT)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off SET plan_cache_mode TO force_custom_plan
AS $body$

#variable_conflict use_column
BEGIN
  BEGIN
    RETURN QUERY SELECT s.day::TIMESTAMP WITH TIME ZONE, s.customers::BIGINT FROM tallykeeper.recomputed_customers_daily_from_sources() AS s;
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
  END;
  RETURN QUERY SELECT r.day, r.customers FROM (
SELECT r.day, r.customers, r.tally_reason
FROM (SELECT array_agg(k.day ORDER BY k.day) AS day FROM (SELECT DISTINCT s.day FROM (
SELECT date_trunc('day', golden.sales.sold_at, 'UTC') AS day, count(DISTINCT golden.sales.customer) AS customers
FROM golden.sales GROUP BY date_trunc('day', golden.sales.sold_at, 'UTC')
) AS s
UNION SELECT z.day FROM tallykeeper.recomputed_customers_daily_pruned AS z) AS k) AS k, tallykeeper.recomputed_customers_daily_lenient_rows(k.day) AS r
) AS r WHERE true;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.recomputed_customers_daily_pending_rows() RETURNS TABLE (day TIMESTAMP WITH TIME ZONE, customers BIGINT)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT r.day, r.customers FROM (SELECT r.day, r.customers, r.tally_reason
FROM (SELECT array_agg(k.day ORDER BY k.day) AS day FROM tallykeeper.recomputed_customers_daily_pending_keys() AS k) AS k, tallykeeper.recomputed_customers_daily_lenient_rows(k.day) AS r) AS r WHERE true
$body$;

CREATE OR REPLACE VIEW golden.customers_daily_live AS
SELECT d.day, d.customers FROM golden.customers_daily AS d WHERE NOT EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('recomputed.customers_daily')) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.customers_daily'::regclass)) OR tallykeeper.require_unbroken('golden.customers_daily'::regclass)) AND NOT EXISTS (SELECT FROM tallykeeper.recomputed_customers_daily_pending_keys() AS k WHERE k.day = d.day)
UNION ALL SELECT p.day, p.customers FROM tallykeeper.recomputed_customers_daily_pending_rows() AS p WHERE NOT EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('recomputed.customers_daily')) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.customers_daily'::regclass)) OR tallykeeper.require_unbroken('golden.customers_daily'::regclass))
UNION ALL SELECT s.day, s.customers FROM tallykeeper.recomputed_customers_daily_live_sources() AS s WHERE EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('recomputed.customers_daily'));
