CREATE TABLE chain.words_by_sales (
	lines BIGINT NOT NULL,
	products BIGINT NOT NULL,
	cents NUMERIC NOT NULL,
	PRIMARY KEY (lines)
);

CREATE TABLE tallykeeper.chain_words_by_sales_log (
	tally_part SMALLINT NOT NULL,
	tally_sign INTEGER NOT NULL,
	"1.product" INTEGER,
	"1.cents" INTEGER,
	"2.id" INTEGER,
	logged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE TABLE tallykeeper.chain_words_by_sales_n1 (g0 integer NOT NULL, n bigint NOT NULL, a0 numeric NOT NULL) WITH (fillfactor = 80);

CREATE UNIQUE INDEX ON tallykeeper.chain_words_by_sales_n1 (g0) NULLS NOT DISTINCT;

CREATE TABLE tallykeeper.chain_words_by_sales_pruned (lines BIGINT, products BIGINT, cents NUMERIC, tally_frozen_at timestamptz NOT NULL DEFAULT now(), tally_changed_at timestamptz);

CREATE UNIQUE INDEX ON tallykeeper.chain_words_by_sales_pruned (lines) NULLS NOT DISTINCT;

CREATE OR REPLACE FUNCTION tallykeeper.chain_words_by_sales_from_sources() RETURNS TABLE (lines BIGINT, products BIGINT, cents NUMERIC)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT CASE WHEN s.lines BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (s.lines)::BIGINT END AS lines, CASE WHEN s.products BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (s.products)::BIGINT END AS products, (s.cents)::NUMERIC AS cents FROM (
SELECT r.lines, r.products, r.cents FROM (
SELECT s.lines, s.products, s.cents
FROM tallykeeper.chain_words_by_sales_definition AS s
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE z.lines = r.lines)
UNION ALL SELECT z.lines, z.products, z.cents FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE true
) AS s WHERE ((SELECT count(*) = 2 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass, 'golden.products'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass, 'golden.products'::regclass))
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.chain_words_by_sales_raw_changes() RETURNS TABLE (lines bigint, products bigint, cents numeric, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off SET jit TO off SET join_collapse_limit TO 1 SET from_collapse_limit TO 1
AS $body$

#variable_conflict use_column
DECLARE
  counts jsonb := (SELECT jsonb_object_agg(g.part, g.rows) FROM (
    SELECT l.tally_part AS part, count(*) AS rows FROM tallykeeper.chain_words_by_sales_log AS l GROUP BY l.tally_part) AS g);
  pending smallint[] := ARRAY(SELECT k::smallint FROM jsonb_object_keys(counts) AS k);
  steps text;
BEGIN
  IF pending = '{}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    CASE WHEN pending && '{1}' THEN 'tally_p1 AS MATERIALIZED (
' || 'SELECT "1.product" AS product, "1.cents" AS cents, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.chain_words_by_sales_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END GROUP BY "1.product", "1.cents" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '1') || ')' END,
    CASE WHEN pending && '{2}' THEN 'tally_p2 AS MATERIALIZED (
' || 'SELECT "2.id" AS id, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.chain_words_by_sales_log WHERE CASE WHEN tally_part = 2 THEN true ELSE false END GROUP BY "2.id" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '2') || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_x_n1 AS MATERIALIZED (
' || 'SELECT CAST(g0 AS integer) AS g0, CAST(coalesce(sum(n), 0) AS bigint) AS n, CAST(coalesce(sum(a0), 0) AS numeric) AS a0 FROM (
SELECT CAST(NULL AS integer) AS g0, CAST(NULL AS bigint) AS n, CAST(NULL AS numeric) AS a0 WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT "s"."product" AS g0, "s".tally_m AS n, CAST("s"."cents" AS BIGINT) * "s".tally_m AS a0
FROM tally_p1 AS "s"
  JOIN golden.products AS "p" ON ("p"."id" = "s"."product")' ELSE '' END || CASE WHEN pending && '{2}' AND pending && '{1}' THEN '
UNION ALL SELECT "s"."product" AS g0, -("s".tally_m * "p".tally_m) AS n, CAST("s"."cents" AS BIGINT) * -("s".tally_m * "p".tally_m) AS a0
FROM tally_p1 AS "s"
  JOIN tally_p2 AS "p" ON ("p"."id" = "s"."product")' ELSE '' END || CASE WHEN pending && '{2}' THEN '
UNION ALL SELECT "s"."product" AS g0, "p".tally_m AS n, CAST("s"."cents" AS BIGINT) * "p".tally_m AS a0
FROM tally_p2 AS "p"
  JOIN golden.sales AS "s" ON ("p"."id" = "s"."product")' ELSE '' END || '
) AS q
GROUP BY g0' || '
HAVING sum(n) <> 0 OR sum(a0) <> 0' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_c_n1 AS MATERIALIZED (
' || 'SELECT x.g0, s.ctid AS tally_place, s.n AS old_n, s.a0 AS old_a0, coalesce(s.n, 0) + x.n AS n, coalesce(s.a0, 0) + x.a0 AS a0 FROM tally_x_n1 AS x LEFT JOIN tallykeeper.chain_words_by_sales_n1 AS s ON s.g0 = x.g0' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_d_n1 AS MATERIALIZED (
' || 'SELECT old_n AS n, old_a0 AS a0, -1::bigint AS tally_m FROM tally_c_n1 WHERE old_n IS NOT NULL' || ' AND (n = 0 OR old_n IS NULL OR old_n IS DISTINCT FROM n OR old_a0 IS DISTINCT FROM a0)' || '
UNION ALL SELECT n, a0, 1::bigint AS tally_m FROM tally_c_n1 WHERE n <> 0' || ' AND (n = 0 OR old_n IS NULL OR old_n IS DISTINCT FROM n OR old_a0 IS DISTINCT FROM a0)' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_x_n2 AS MATERIALIZED (
' || 'SELECT CAST(g0 AS bigint) AS g0, CAST(coalesce(sum(n), 0) AS bigint) AS n, CAST(coalesce(sum(a0), 0) AS numeric) AS a0 FROM (
SELECT CAST(NULL AS bigint) AS g0, CAST(NULL AS bigint) AS n, CAST(NULL AS numeric) AS a0 WHERE false' || CASE WHEN pending && '{1, 2}' THEN '
UNION ALL SELECT t1_.n AS g0, "t1_".tally_m AS n, CAST(t1_.a0 AS DECIMAL) * "t1_".tally_m AS a0
FROM tally_d_n1 AS "t1_"' ELSE '' END || '
) AS q' || '
GROUP BY g0' || '
HAVING sum(n) <> 0 OR sum(a0) <> 0' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_c_n2 AS MATERIALIZED (
' || 'SELECT x.g0, s.ctid AS tally_place, s.n AS old_n, s.a0 AS old_a0, coalesce(s.n, 0) + x.n AS n, coalesce(s.a0, 0) + x.a0 AS a0 FROM tally_x_n2 AS x LEFT JOIN (SELECT d.ctid, d.lines AS g0, d.products AS n, d.cents AS a0 FROM chain.words_by_sales AS d) AS s ON s.g0 = x.g0' || ')' END
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    'SELECT c.lines::bigint, c.products::bigint, c.cents::numeric, c.tally_total::bigint FROM ('
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || 'SELECT CAST(NULL AS bigint) AS lines, CAST(NULL AS bigint) AS products, CAST(NULL AS numeric) AS cents, 0 AS tally_total WHERE false' || CASE WHEN pending && '{1, 2}' THEN '
UNION ALL SELECT CAST(c.g0 AS bigint) AS lines, CAST(c.n AS bigint) AS products, CAST(c.a0 AS numeric) AS cents, CASE WHEN c.n <> 0 THEN 1 ELSE 0 END FROM tally_c_n2 AS c' ELSE '' END
    || ') AS c WHERE ((SELECT count(*) = 3 AND bool_and(f.relkind = ''r'' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN (''golden.sales''::regclass, ''golden.products''::regclass, ''tallykeeper.chain_words_by_sales_n1''::regclass)) OR tallykeeper.require_unbroken(''golden.sales''::regclass, ''golden.products''::regclass, ''tallykeeper.chain_words_by_sales_n1''::regclass))';
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.chain_words_by_sales_changes() RETURNS TABLE (lines bigint, products bigint, cents numeric, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off
AS $body$

#variable_conflict use_column
BEGIN
  BEGIN
    RETURN QUERY SELECT * FROM tallykeeper.chain_words_by_sales_raw_changes() AS c WHERE NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE z.lines = c.lines);
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
  END;
  RETURN QUERY SELECT e.lines::bigint, e.products::bigint, e.cents::numeric, 1::bigint FROM tallykeeper.chain_words_by_sales_definition AS e
    WHERE ((SELECT count(*) = 3 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass, 'golden.products'::regclass, 'tallykeeper.chain_words_by_sales_n1'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass, 'golden.products'::regclass, 'tallykeeper.chain_words_by_sales_n1'::regclass)) AND NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE z.lines = e.lines);
  RETURN QUERY SELECT DISTINCT d.lines::bigint, d.products::bigint, d.cents::numeric, 0::bigint FROM chain.words_by_sales AS d
    WHERE NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_definition AS e WHERE e.lines = d.lines)
    AND NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE z.lines = d.lines);
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.chain_words_by_sales_changes_of(bigint[]) RETURNS TABLE (lines bigint, products bigint, cents numeric, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off SET jit TO off SET join_collapse_limit TO 1 SET from_collapse_limit TO 1
AS $body$

#variable_conflict use_column
DECLARE
  counts jsonb := (SELECT jsonb_object_agg(g.part, g.rows) FROM (
    SELECT l.tally_part AS part, count(*) AS rows FROM tallykeeper.chain_words_by_sales_log AS l WHERE (tally_part IN (1, 2)) GROUP BY l.tally_part) AS g);
  pending smallint[] := ARRAY(SELECT k::smallint FROM jsonb_object_keys(counts) AS k);
  steps text;
BEGIN
  IF pending = '{}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    CASE WHEN pending && '{1}' THEN 'tally_p1 AS MATERIALIZED (
' || 'SELECT "1.product" AS product, "1.cents" AS cents, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.chain_words_by_sales_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END GROUP BY "1.product", "1.cents" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '1') || ')' END,
    CASE WHEN pending && '{2}' THEN 'tally_p2 AS MATERIALIZED (
' || 'SELECT "2.id" AS id, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.chain_words_by_sales_log WHERE CASE WHEN tally_part = 2 THEN true ELSE false END GROUP BY "2.id" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '2') || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_x_n1 AS MATERIALIZED (
' || 'SELECT CAST(g0 AS integer) AS g0, CAST(coalesce(sum(n), 0) AS bigint) AS n, CAST(coalesce(sum(a0), 0) AS numeric) AS a0 FROM (
SELECT CAST(NULL AS integer) AS g0, CAST(NULL AS bigint) AS n, CAST(NULL AS numeric) AS a0 WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT "s"."product" AS g0, "s".tally_m AS n, CAST("s"."cents" AS BIGINT) * "s".tally_m AS a0
FROM tally_p1 AS "s"
  JOIN golden.products AS "p" ON ("p"."id" = "s"."product")' ELSE '' END || CASE WHEN pending && '{2}' AND pending && '{1}' THEN '
UNION ALL SELECT "s"."product" AS g0, -("s".tally_m * "p".tally_m) AS n, CAST("s"."cents" AS BIGINT) * -("s".tally_m * "p".tally_m) AS a0
FROM tally_p1 AS "s"
  JOIN tally_p2 AS "p" ON ("p"."id" = "s"."product")' ELSE '' END || CASE WHEN pending && '{2}' THEN '
UNION ALL SELECT "s"."product" AS g0, "p".tally_m AS n, CAST("s"."cents" AS BIGINT) * "p".tally_m AS a0
FROM tally_p2 AS "p"
  JOIN golden.sales AS "s" ON ("p"."id" = "s"."product")' ELSE '' END || '
) AS q
GROUP BY g0' || '
HAVING sum(n) <> 0 OR sum(a0) <> 0' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_c_n1 AS MATERIALIZED (
' || 'SELECT x.g0, s.ctid AS tally_place, s.n AS old_n, s.a0 AS old_a0, coalesce(s.n, 0) + x.n AS n, coalesce(s.a0, 0) + x.a0 AS a0 FROM tally_x_n1 AS x LEFT JOIN tallykeeper.chain_words_by_sales_n1 AS s ON s.g0 = x.g0' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_d_n1 AS MATERIALIZED (
' || 'SELECT old_n AS n, old_a0 AS a0, -1::bigint AS tally_m FROM tally_c_n1 WHERE old_n IS NOT NULL' || ' AND (n = 0 OR old_n IS NULL OR old_n IS DISTINCT FROM n OR old_a0 IS DISTINCT FROM a0)' || '
UNION ALL SELECT n, a0, 1::bigint AS tally_m FROM tally_c_n1 WHERE n <> 0' || ' AND (n = 0 OR old_n IS NULL OR old_n IS DISTINCT FROM n OR old_a0 IS DISTINCT FROM a0)' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_x_n2 AS MATERIALIZED (
' || 'SELECT CAST(g0 AS bigint) AS g0, CAST(coalesce(sum(n), 0) AS bigint) AS n, CAST(coalesce(sum(a0), 0) AS numeric) AS a0 FROM (
SELECT CAST(NULL AS bigint) AS g0, CAST(NULL AS bigint) AS n, CAST(NULL AS numeric) AS a0 WHERE false' || CASE WHEN pending && '{1, 2}' THEN '
UNION ALL SELECT t1_.n AS g0, "t1_".tally_m AS n, CAST(t1_.a0 AS DECIMAL) * "t1_".tally_m AS a0
FROM tally_d_n1 AS "t1_"' ELSE '' END || '
) AS q' || '
WHERE g0 = ANY ($1)' || '
GROUP BY g0' || '
HAVING sum(n) <> 0 OR sum(a0) <> 0' || ')' END,
    CASE WHEN pending && '{1, 2}' THEN 'tally_c_n2 AS MATERIALIZED (
' || 'SELECT x.g0, s.ctid AS tally_place, s.n AS old_n, s.a0 AS old_a0, coalesce(s.n, 0) + x.n AS n, coalesce(s.a0, 0) + x.a0 AS a0 FROM tally_x_n2 AS x LEFT JOIN (SELECT d.ctid, d.lines AS g0, d.products AS n, d.cents AS a0 FROM chain.words_by_sales AS d) AS s ON s.g0 = x.g0' || ')' END
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    'SELECT c.lines::bigint, c.products::bigint, c.cents::numeric, c.tally_total::bigint FROM ('
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || 'SELECT CAST(NULL AS bigint) AS lines, CAST(NULL AS bigint) AS products, CAST(NULL AS numeric) AS cents, 0 AS tally_total WHERE false' || CASE WHEN pending && '{1, 2}' THEN '
UNION ALL SELECT CAST(c.g0 AS bigint) AS lines, CAST(c.n AS bigint) AS products, CAST(c.a0 AS numeric) AS cents, CASE WHEN c.n <> 0 THEN 1 ELSE 0 END FROM tally_c_n2 AS c' ELSE '' END
    || ') AS c WHERE ((SELECT count(*) = 3 AND bool_and(f.relkind = ''r'' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN (''golden.sales''::regclass, ''golden.products''::regclass, ''tallykeeper.chain_words_by_sales_n1''::regclass)) OR tallykeeper.require_unbroken(''golden.sales''::regclass, ''golden.products''::regclass, ''tallykeeper.chain_words_by_sales_n1''::regclass))' USING $1;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.chain_words_by_sales_live_of(bigint[]) RETURNS TABLE (lines BIGINT, products BIGINT, cents NUMERIC)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$

#variable_conflict use_column
BEGIN
  IF NOT EXISTS (
    SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally = 'chain.words_by_sales'
  ) THEN
    BEGIN
      RETURN QUERY WITH tally_changes AS MATERIALIZED (SELECT * FROM tallykeeper.chain_words_by_sales_changes_of($1) AS c WHERE NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE z.lines = c.lines) AND NOT EXISTS (SELECT FROM (SELECT k.lines FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (lines BIGINT) WHERE q.tally = 'chain.words_by_sales') AS held_key WHERE held_key.lines = c.lines))
        SELECT d.lines::BIGINT, d.products::BIGINT, d.cents::NUMERIC FROM chain.words_by_sales AS d WHERE d.lines = ANY ($1)
          AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE c.lines = d.lines)
        UNION ALL SELECT f.lines::BIGINT, f.products::BIGINT, f.cents::NUMERIC FROM (
SELECT c.lines, c.products, c.cents FROM tally_changes AS c WHERE c.tally_total > 0 AND true
) AS f WHERE f.lines = ANY ($1);
      IF EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'chain.words_by_sales') THEN
        RETURN QUERY SELECT f.lines::BIGINT, f.products::BIGINT, f.cents::NUMERIC FROM (
SELECT r.lines, r.products, r.cents FROM (
SELECT s.lines, s.products, s.cents FROM tallykeeper.chain_words_by_sales_definition AS s WHERE s.lines = ANY (ARRAY(SELECT k.lines FROM (SELECT DISTINCT * FROM unnest($1) AS k (lines)) AS k)) AND EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (lines)) AS k WHERE k.lines = s.lines)
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE z.lines = r.lines)
UNION ALL SELECT z.lines, z.products, z.cents FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (lines)) AS k WHERE k.lines = z.lines)
) AS f WHERE EXISTS (SELECT FROM (SELECT k.lines FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (lines BIGINT) WHERE q.tally = 'chain.words_by_sales') AS held_key WHERE held_key.lines = f.lines);
      END IF;
      PERFORM ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('chain.words_by_sales'::regclass)) OR tallykeeper.require_unbroken('chain.words_by_sales'::regclass));
      RETURN;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
    END;
  END IF;
  RETURN QUERY SELECT f.lines::BIGINT, f.products::BIGINT, f.cents::NUMERIC FROM (
SELECT r.lines, r.products, r.cents FROM (
SELECT s.lines, s.products, s.cents FROM tallykeeper.chain_words_by_sales_definition AS s WHERE s.lines = ANY (ARRAY(SELECT k.lines FROM (SELECT DISTINCT * FROM unnest($1) AS k (lines)) AS k)) AND EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (lines)) AS k WHERE k.lines = s.lines)
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE z.lines = r.lines)
UNION ALL SELECT z.lines, z.products, z.cents FROM tallykeeper.chain_words_by_sales_pruned AS z WHERE EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (lines)) AS k WHERE k.lines = z.lines)
) AS f WHERE ((SELECT count(*) = 2 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass, 'golden.products'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass, 'golden.products'::regclass));
END
$body$;

CREATE OR REPLACE VIEW tallykeeper.chain_words_by_sales_definition AS
SELECT d.lines, count(*) AS products, sum(d.cents) AS cents FROM (SELECT s.product, count(*) AS lines, sum(s.cents) AS cents FROM golden.sales AS s JOIN golden.products AS p ON p.id = s.product GROUP BY s.product) AS d GROUP BY d.lines;

CREATE OR REPLACE VIEW chain.words_by_sales_live AS
WITH tally_changes AS MATERIALIZED (SELECT * FROM tallykeeper.chain_words_by_sales_changes() AS c WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('chain.words_by_sales')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'chain.words_by_sales' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.chain_words_by_sales_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('chain.words_by_sales'::regclass)) OR tallykeeper.require_unbroken('chain.words_by_sales'::regclass)) AND NOT EXISTS (SELECT FROM (SELECT k.lines FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (lines BIGINT) WHERE q.tally = 'chain.words_by_sales') AS held_key WHERE held_key.lines = c.lines))
SELECT d.lines, d.products, d.cents FROM chain.words_by_sales AS d WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('chain.words_by_sales')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'chain.words_by_sales' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.chain_words_by_sales_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('chain.words_by_sales'::regclass)) OR tallykeeper.require_unbroken('chain.words_by_sales'::regclass)) AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE c.lines = d.lines)
UNION ALL SELECT c.lines, c.products, c.cents FROM tally_changes AS c WHERE c.tally_total > 0 AND NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('chain.words_by_sales')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'chain.words_by_sales' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.chain_words_by_sales_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('chain.words_by_sales'::regclass)) OR tallykeeper.require_unbroken('chain.words_by_sales'::regclass))
UNION ALL SELECT s.lines, s.products, s.cents FROM tallykeeper.chain_words_by_sales_from_sources() AS s WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('chain.words_by_sales')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'chain.words_by_sales' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.chain_words_by_sales_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('chain.words_by_sales'::regclass)) OR tallykeeper.require_unbroken('chain.words_by_sales'::regclass)) AND EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'chain.words_by_sales') AND EXISTS (SELECT FROM (SELECT k.lines FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (lines BIGINT) WHERE q.tally = 'chain.words_by_sales') AS held_key WHERE held_key.lines = s.lines) AND true
UNION ALL SELECT s.lines, s.products, s.cents FROM tallykeeper.chain_words_by_sales_from_sources() AS s WHERE (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('chain.words_by_sales')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'chain.words_by_sales' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.chain_words_by_sales_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending));
