CREATE TABLE tallykeeper.batched_product_words_log (
	part SMALLINT NOT NULL,
	shelf TEXT,
	product INTEGER,
	logged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE OR REPLACE FUNCTION tallykeeper.batched_product_words_from_sources() RETURNS TABLE (shelf TEXT, product INTEGER, word TEXT)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT (s.shelf)::TEXT AS shelf, CASE WHEN s.product BETWEEN -2147483648 AND 2147483647 THEN (s.product)::INTEGER END AS product, (s.word)::TEXT AS word FROM (
SELECT CAST('all' AS TEXT) AS shelf, golden.products.id AS product, named.word
FROM golden.products JOIN LATERAL (SELECT DISTINCT unnest(golden.products.words) AS word) AS named ON true
WHERE named.word IS NOT NULL
) AS s WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.products'::regclass)) OR tallykeeper.require_unbroken('golden.products'::regclass))
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.batched_product_words_pending_keys() RETURNS TABLE (shelf TEXT, product INTEGER)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
(SELECT DISTINCT dirty.shelf, dirty.product
FROM tallykeeper.batched_product_words_log AS dirty
WHERE dirty.shelf IS NOT NULL AND dirty.product IS NOT NULL)
UNION SELECT k.shelf, k.product FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (shelf TEXT, product INTEGER) WHERE q.tally = 'batched.product_words'
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.batched_product_words_rows_of_keys(TEXT[], INTEGER[]) RETURNS TABLE (shelf TEXT, product INTEGER, word TEXT)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off SET plan_cache_mode TO force_custom_plan
AS $body$
#variable_conflict use_column
BEGIN
  RETURN QUERY WITH run_keys AS MATERIALIZED (
SELECT k.shelf, k.product FROM unnest($1, $2) AS k (shelf, product)
)
SELECT s.shelf::TEXT, s.product::INTEGER, s.word::TEXT FROM (
SELECT s.shelf, s.product, s.word FROM (
SELECT CAST('all' AS TEXT) AS shelf, golden.products.id AS product, named.word
FROM golden.products JOIN LATERAL (SELECT DISTINCT unnest(golden.products.words) AS word) AS named ON true
WHERE named.word IS NOT NULL AND (CAST('all' AS TEXT), golden.products.id) IN (SELECT keys.shelf, keys.product
FROM run_keys AS keys)
) AS s WHERE EXISTS (SELECT FROM run_keys AS k WHERE k.shelf = s.shelf AND k.product = s.product)
) AS s;
  PERFORM ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.products'::regclass)) OR tallykeeper.require_unbroken('golden.products'::regclass));
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.batched_product_words_lenient_rows(TEXT[], INTEGER[]) RETURNS TABLE (shelf TEXT, product INTEGER, word TEXT, tally_reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off SET plan_cache_mode TO force_custom_plan
AS $body$

#variable_conflict use_column
DECLARE
  tally_middle integer := cardinality($1) / 2;
BEGIN
  BEGIN
    RETURN QUERY SELECT r.*, NULL::text FROM tallykeeper.batched_product_words_rows_of_keys($1, $2) AS r;
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN
    IF tally_middle = 0 THEN
      RETURN QUERY SELECT $1[1], $2[1], NULL::TEXT, SQLSTATE || ': ' || SQLERRM;
      RETURN;
    END IF;
  END;
  RETURN QUERY SELECT r.* FROM tallykeeper.batched_product_words_lenient_rows($1[:tally_middle], $2[:tally_middle]) AS r;
  RETURN QUERY SELECT r.* FROM tallykeeper.batched_product_words_lenient_rows($1[tally_middle + 1:], $2[tally_middle + 1:]) AS r;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.batched_product_words_live_sources() RETURNS TABLE (shelf TEXT, product INTEGER, word TEXT)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off SET plan_cache_mode TO force_custom_plan
AS $body$

#variable_conflict use_column
BEGIN
  BEGIN
    RETURN QUERY SELECT s.shelf::TEXT, s.product::INTEGER, s.word::TEXT FROM tallykeeper.batched_product_words_from_sources() AS s;
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
  END;
  RETURN QUERY SELECT r.shelf, r.product, r.word FROM (
SELECT r.shelf, r.product, r.word, r.tally_reason
FROM (SELECT array_agg(k.shelf ORDER BY k.shelf, k.product) AS shelf, array_agg(k.product ORDER BY k.shelf, k.product) AS product FROM (SELECT DISTINCT s.shelf, s.product FROM (
SELECT CAST('all' AS TEXT) AS shelf, golden.products.id AS product, named.word
FROM golden.products JOIN LATERAL (SELECT DISTINCT unnest(golden.products.words) AS word) AS named ON true
WHERE named.word IS NOT NULL
) AS s) AS k) AS k, tallykeeper.batched_product_words_lenient_rows(k.shelf, k.product) AS r
) AS r WHERE r.tally_reason IS NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.batched_product_words_pending_rows() RETURNS TABLE (shelf TEXT, product INTEGER, word TEXT)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT r.shelf, r.product, r.word FROM (SELECT r.shelf, r.product, r.word, r.tally_reason
FROM (SELECT array_agg(k.shelf ORDER BY k.shelf, k.product) AS shelf, array_agg(k.product ORDER BY k.shelf, k.product) AS product FROM tallykeeper.batched_product_words_pending_keys() AS k) AS k, tallykeeper.batched_product_words_lenient_rows(k.shelf, k.product) AS r) AS r WHERE r.tally_reason IS NULL
$body$;

CREATE OR REPLACE VIEW golden.product_words_live AS
SELECT d.shelf, d.product, d.word FROM golden.product_words AS d WHERE NOT EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('batched.product_words')) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.product_words'::regclass)) OR tallykeeper.require_unbroken('golden.product_words'::regclass)) AND NOT EXISTS (SELECT FROM tallykeeper.batched_product_words_pending_keys() AS k WHERE k.shelf = d.shelf AND k.product = d.product)
UNION ALL SELECT p.shelf, p.product, p.word FROM tallykeeper.batched_product_words_pending_rows() AS p WHERE NOT EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('batched.product_words')) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.product_words'::regclass)) OR tallykeeper.require_unbroken('golden.product_words'::regclass))
UNION ALL SELECT s.shelf, s.product, s.word FROM tallykeeper.batched_product_words_live_sources() AS s WHERE EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('batched.product_words'));
