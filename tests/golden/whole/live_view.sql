CREATE TABLE whole.first_sales (
	id BIGINT,
	cents INTEGER,
	tally_copy INTEGER NOT NULL
);

CREATE TABLE tallykeeper.whole_first_sales_log (
	tally_part SMALLINT NOT NULL,
	tally_sign INTEGER NOT NULL,
	"1.id" BIGINT,
	"1.cents" INTEGER,
	logged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE OR REPLACE FUNCTION tallykeeper.whole_first_sales_from_sources() RETURNS TABLE (id BIGINT, cents INTEGER, tally_copy INTEGER)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT CASE WHEN s.id BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (s.id)::BIGINT END AS id, CASE WHEN s.cents BETWEEN -2147483648 AND 2147483647 THEN (s.cents)::INTEGER END AS cents, CASE WHEN s.tally_copy BETWEEN -2147483648 AND 2147483647 THEN (s.tally_copy)::INTEGER END AS tally_copy FROM (
SELECT s.id, s.cents, s.tally_copy
FROM (SELECT v.*, (row_number() OVER (PARTITION BY v.id, v.cents))::integer AS tally_copy FROM tallykeeper.whole_first_sales_definition AS v) AS s
) AS s WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass))
$body$;

CREATE OR REPLACE VIEW tallykeeper.whole_first_sales_definition AS
SELECT s.id, s.cents FROM golden.sales AS s ORDER BY s.cents DESC, s.id LIMIT 3;

CREATE OR REPLACE VIEW whole.first_sales_live AS
SELECT d.id, d.cents, d.tally_copy FROM whole.first_sales AS d WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('whole.first_sales')) OR EXISTS (SELECT FROM tallykeeper.whole_first_sales_log AS l)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('whole.first_sales'::regclass)) OR tallykeeper.require_unbroken('whole.first_sales'::regclass))
UNION ALL SELECT s.id, s.cents, s.tally_copy FROM tallykeeper.whole_first_sales_from_sources() AS s WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('whole.first_sales')) OR EXISTS (SELECT FROM tallykeeper.whole_first_sales_log AS l)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('whole.first_sales'::regclass)) OR tallykeeper.require_unbroken('whole.first_sales'::regclass)) AND EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'whole.first_sales') AND EXISTS (SELECT FROM (SELECT k.id, k.cents FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (id BIGINT, cents INTEGER) WHERE q.tally = 'whole.first_sales') AS held_key WHERE hash_record_extended(ROW(held_key.id, held_key.cents), 0) = hash_record_extended(ROW(s.id, s.cents), 0) AND ROW(held_key.id::BIGINT, held_key.cents::INTEGER, 0)::record = ROW(s.id::BIGINT, s.cents::INTEGER, 0)::record) AND true
UNION ALL SELECT s.id, s.cents, s.tally_copy FROM tallykeeper.whole_first_sales_from_sources() AS s WHERE (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('whole.first_sales')) OR EXISTS (SELECT FROM tallykeeper.whole_first_sales_log AS l));
