CREATE TABLE grouped.sale_extremes (
	product INTEGER NOT NULL,
	least INTEGER,
	most INTEGER,
	PRIMARY KEY (product)
);

CREATE TABLE tallykeeper.grouped_sale_extremes_log (
	tally_part SMALLINT NOT NULL,
	tally_sign INTEGER NOT NULL,
	"1.product" INTEGER,
	"1.cents" INTEGER,
	logged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE TABLE tallykeeper.grouped_sale_extremes_pruned (product INTEGER, "least" INTEGER, most INTEGER, tally_frozen_at timestamptz NOT NULL DEFAULT now(), tally_changed_at timestamptz);

CREATE UNIQUE INDEX ON tallykeeper.grouped_sale_extremes_pruned (product) NULLS NOT DISTINCT;

CREATE OR REPLACE FUNCTION tallykeeper.grouped_sale_extremes_from_sources() RETURNS TABLE (product INTEGER, "least" INTEGER, most INTEGER)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT CASE WHEN s.product BETWEEN -2147483648 AND 2147483647 THEN (s.product)::INTEGER END AS product, CASE WHEN s."least" BETWEEN -2147483648 AND 2147483647 THEN (s."least")::INTEGER END AS "least", CASE WHEN s.most BETWEEN -2147483648 AND 2147483647 THEN (s.most)::INTEGER END AS most FROM (
SELECT r.product, r."least", r.most FROM (
SELECT s.product, s."least", s.most
FROM tallykeeper.grouped_sale_extremes_definition AS s
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE z.product = r.product)
UNION ALL SELECT z.product, z."least", z.most FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE true
) AS s WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass))
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.grouped_sale_extremes_raw_changes() RETURNS TABLE (product integer, "least" integer, most integer, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off SET jit TO off SET join_collapse_limit TO 1 SET from_collapse_limit TO 1
AS $body$

#variable_conflict use_column
DECLARE
  counts jsonb := (SELECT jsonb_object_agg(g.part, g.rows) FROM (
    SELECT l.tally_part AS part, count(*) AS rows FROM tallykeeper.grouped_sale_extremes_log AS l GROUP BY l.tally_part) AS g);
  pending smallint[] := ARRAY(SELECT k::smallint FROM jsonb_object_keys(counts) AS k);
  steps text;
BEGIN
  IF pending = '{}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    CASE WHEN pending && '{1}' THEN 'tally_p1 AS MATERIALIZED (
' || 'SELECT "1.product" AS product, "1.cents" AS cents, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.grouped_sale_extremes_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END' || ' GROUP BY "1.product", "1.cents" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '1') || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_x_n1 AS MATERIALIZED (
' || 'SELECT DISTINCT CAST(g0 AS integer) AS g0 FROM (
SELECT CAST(NULL AS integer) AS g0 WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT "s"."product" AS g0
FROM tally_p1 AS "s"' ELSE '' END || '
) AS q' || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_new_n1 AS MATERIALIZED (
' || 'SELECT "s"."product" AS g0, COUNT(*) AS n, MIN("s"."cents") AS a0, MAX("s"."cents") AS a1 FROM "golden"."sales" AS "s" WHERE ("s"."product") IN (SELECT tally_k.g0 FROM tally_x_n1 AS tally_k) GROUP BY "s"."product"' || ')' END
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    'SELECT c.product::integer, c."least"::integer, c.most::integer, c.tally_total::bigint FROM ('
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || 'SELECT CAST(NULL AS integer) AS product, CAST(NULL AS integer) AS "least", CAST(NULL AS integer) AS most, 0 AS tally_total WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT CAST(c.g0 AS integer) AS product, CAST(c.a0 AS integer) AS "least", CAST(c.a1 AS integer) AS most, 1 FROM tally_new_n1 AS c
UNION ALL SELECT d.product, d."least", d.most, 0 FROM tally_x_n1 AS x JOIN grouped.sale_extremes AS d ON d.product = x.g0 WHERE NOT EXISTS (SELECT 1 FROM tally_new_n1 AS c WHERE c.g0 = x.g0)' ELSE '' END
    || ') AS c WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = ''r'' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN (''golden.sales''::regclass)) OR tallykeeper.require_unbroken(''golden.sales''::regclass))';
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.grouped_sale_extremes_changes() RETURNS TABLE (product integer, "least" integer, most integer, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off
AS $body$

#variable_conflict use_column
BEGIN
  BEGIN
    RETURN QUERY SELECT * FROM tallykeeper.grouped_sale_extremes_raw_changes() AS c WHERE NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE z.product = c.product);
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
  END;
  RETURN QUERY SELECT e.product::integer, e."least"::integer, e.most::integer, 1::bigint FROM tallykeeper.grouped_sale_extremes_definition AS e
    WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass)) AND NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE z.product = e.product);
  RETURN QUERY SELECT DISTINCT d.product::integer, d."least"::integer, d.most::integer, 0::bigint FROM grouped.sale_extremes AS d
    WHERE NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_definition AS e WHERE e.product = d.product)
    AND NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE z.product = d.product);
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.grouped_sale_extremes_changes_of(integer[]) RETURNS TABLE (product integer, "least" integer, most integer, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off SET jit TO off SET join_collapse_limit TO 1 SET from_collapse_limit TO 1
AS $body$

#variable_conflict use_column
DECLARE
  counts jsonb := (SELECT jsonb_object_agg(g.part, g.rows) FROM (
    SELECT l.tally_part AS part, count(*) AS rows FROM tallykeeper.grouped_sale_extremes_log AS l WHERE (coalesce("1.product") = ANY ($1)) GROUP BY l.tally_part) AS g);
  pending smallint[] := ARRAY(SELECT k::smallint FROM jsonb_object_keys(counts) AS k);
  steps text;
BEGIN
  IF pending = '{}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    CASE WHEN pending && '{1}' THEN 'tally_p1 AS MATERIALIZED (
' || 'SELECT "1.product" AS product, "1.cents" AS cents, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.grouped_sale_extremes_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END' || ' AND "1.product" = ANY ($1)' || ' GROUP BY "1.product", "1.cents" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '1') || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_x_n1 AS MATERIALIZED (
' || 'SELECT DISTINCT CAST(g0 AS integer) AS g0 FROM (
SELECT CAST(NULL AS integer) AS g0 WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT "s"."product" AS g0
FROM tally_p1 AS "s"' ELSE '' END || '
) AS q' || '
WHERE g0 = ANY ($1)' || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_new_n1 AS MATERIALIZED (
' || 'SELECT "s"."product" AS g0, COUNT(*) AS n, MIN("s"."cents") AS a0, MAX("s"."cents") AS a1 FROM "golden"."sales" AS "s" WHERE ("s"."product") IN (SELECT tally_k.g0 FROM tally_x_n1 AS tally_k) GROUP BY "s"."product"' || ')' END
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    'SELECT c.product::integer, c."least"::integer, c.most::integer, c.tally_total::bigint FROM ('
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || 'SELECT CAST(NULL AS integer) AS product, CAST(NULL AS integer) AS "least", CAST(NULL AS integer) AS most, 0 AS tally_total WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT CAST(c.g0 AS integer) AS product, CAST(c.a0 AS integer) AS "least", CAST(c.a1 AS integer) AS most, 1 FROM tally_new_n1 AS c
UNION ALL SELECT d.product, d."least", d.most, 0 FROM tally_x_n1 AS x JOIN grouped.sale_extremes AS d ON d.product = x.g0 WHERE NOT EXISTS (SELECT 1 FROM tally_new_n1 AS c WHERE c.g0 = x.g0)' ELSE '' END
    || ') AS c WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = ''r'' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN (''golden.sales''::regclass)) OR tallykeeper.require_unbroken(''golden.sales''::regclass))' USING $1;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.grouped_sale_extremes_live_of(integer[]) RETURNS TABLE (product INTEGER, "least" INTEGER, most INTEGER)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$

#variable_conflict use_column
BEGIN
  IF NOT EXISTS (
    SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally = 'grouped.sale_extremes'
  ) THEN
    BEGIN
      RETURN QUERY WITH tally_changes AS MATERIALIZED (SELECT * FROM tallykeeper.grouped_sale_extremes_changes_of($1) AS c WHERE NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE z.product = c.product) AND NOT EXISTS (SELECT FROM (SELECT k.product FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (product INTEGER) WHERE q.tally = 'grouped.sale_extremes') AS held_key WHERE held_key.product = c.product))
        SELECT d.product::INTEGER, d."least"::INTEGER, d.most::INTEGER FROM grouped.sale_extremes AS d WHERE d.product = ANY ($1)
          AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE c.product = d.product)
        UNION ALL SELECT f.product::INTEGER, f."least"::INTEGER, f.most::INTEGER FROM (
SELECT c.product, c."least", c.most FROM tally_changes AS c WHERE c.tally_total > 0 AND true
) AS f WHERE f.product = ANY ($1);
      IF EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'grouped.sale_extremes') THEN
        RETURN QUERY SELECT f.product::INTEGER, f."least"::INTEGER, f.most::INTEGER FROM (
SELECT r.product, r."least", r.most FROM (
SELECT s.product, s."least", s.most FROM tallykeeper.grouped_sale_extremes_definition AS s WHERE s.product = ANY (ARRAY(SELECT k.product FROM (SELECT DISTINCT * FROM unnest($1) AS k (product)) AS k)) AND EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (product)) AS k WHERE k.product = s.product)
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE z.product = r.product)
UNION ALL SELECT z.product, z."least", z.most FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (product)) AS k WHERE k.product = z.product)
) AS f WHERE EXISTS (SELECT FROM (SELECT k.product FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (product INTEGER) WHERE q.tally = 'grouped.sale_extremes') AS held_key WHERE held_key.product = f.product);
      END IF;
      PERFORM ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('grouped.sale_extremes'::regclass)) OR tallykeeper.require_unbroken('grouped.sale_extremes'::regclass));
      RETURN;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
    END;
  END IF;
  RETURN QUERY SELECT f.product::INTEGER, f."least"::INTEGER, f.most::INTEGER FROM (
SELECT r.product, r."least", r.most FROM (
SELECT s.product, s."least", s.most FROM tallykeeper.grouped_sale_extremes_definition AS s WHERE s.product = ANY (ARRAY(SELECT k.product FROM (SELECT DISTINCT * FROM unnest($1) AS k (product)) AS k)) AND EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (product)) AS k WHERE k.product = s.product)
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE z.product = r.product)
UNION ALL SELECT z.product, z."least", z.most FROM tallykeeper.grouped_sale_extremes_pruned AS z WHERE EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (product)) AS k WHERE k.product = z.product)
) AS f WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.sales'::regclass)) OR tallykeeper.require_unbroken('golden.sales'::regclass));
END
$body$;

CREATE OR REPLACE VIEW tallykeeper.grouped_sale_extremes_definition AS
SELECT s.product, min(s.cents) AS least, max(s.cents) AS most FROM golden.sales AS s GROUP BY s.product;

CREATE OR REPLACE VIEW grouped.sale_extremes_live AS
WITH tally_changes AS MATERIALIZED (SELECT * FROM tallykeeper.grouped_sale_extremes_changes() AS c WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('grouped.sale_extremes')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'grouped.sale_extremes' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.grouped_sale_extremes_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('grouped.sale_extremes'::regclass)) OR tallykeeper.require_unbroken('grouped.sale_extremes'::regclass)) AND NOT EXISTS (SELECT FROM (SELECT k.product FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (product INTEGER) WHERE q.tally = 'grouped.sale_extremes') AS held_key WHERE held_key.product = c.product))
SELECT d.product, d."least", d.most FROM grouped.sale_extremes AS d WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('grouped.sale_extremes')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'grouped.sale_extremes' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.grouped_sale_extremes_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('grouped.sale_extremes'::regclass)) OR tallykeeper.require_unbroken('grouped.sale_extremes'::regclass)) AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE c.product = d.product)
UNION ALL SELECT c.product, c."least", c.most FROM tally_changes AS c WHERE c.tally_total > 0 AND NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('grouped.sale_extremes')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'grouped.sale_extremes' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.grouped_sale_extremes_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('grouped.sale_extremes'::regclass)) OR tallykeeper.require_unbroken('grouped.sale_extremes'::regclass))
UNION ALL SELECT s.product, s."least", s.most FROM tallykeeper.grouped_sale_extremes_from_sources() AS s WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('grouped.sale_extremes')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'grouped.sale_extremes' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.grouped_sale_extremes_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('grouped.sale_extremes'::regclass)) OR tallykeeper.require_unbroken('grouped.sale_extremes'::regclass)) AND EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'grouped.sale_extremes') AND EXISTS (SELECT FROM (SELECT k.product FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (product INTEGER) WHERE q.tally = 'grouped.sale_extremes') AS held_key WHERE held_key.product = s.product) AND true
UNION ALL SELECT s.product, s."least", s.most FROM tallykeeper.grouped_sale_extremes_from_sources() AS s WHERE (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('grouped.sale_extremes')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'grouped.sale_extremes' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.grouped_sale_extremes_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending));
