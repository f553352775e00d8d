CREATE TABLE partitioned.visit_pages (
	page TEXT NOT NULL,
	visits BIGINT,
	latest DATE,
	PRIMARY KEY (page)
);

CREATE TABLE tallykeeper.partitioned_visit_pages_log (
	tally_part SMALLINT NOT NULL,
	tally_sign INTEGER NOT NULL,
	"1.day" DATE,
	"1.page" TEXT,
	logged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE TABLE tallykeeper.partitioned_visit_pages_pruned (page TEXT, visits BIGINT, latest DATE, tally_frozen_at timestamptz NOT NULL DEFAULT now(), tally_changed_at timestamptz);

CREATE UNIQUE INDEX ON tallykeeper.partitioned_visit_pages_pruned (page) NULLS NOT DISTINCT;

CREATE OR REPLACE FUNCTION tallykeeper.partitioned_visit_pages_from_sources() RETURNS TABLE (page TEXT, visits BIGINT, latest DATE)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$
SELECT (s.page)::TEXT AS page, CASE WHEN s.visits BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (s.visits)::BIGINT END AS visits, (s.latest)::DATE AS latest FROM (
SELECT r.page, r.visits, r.latest FROM (
SELECT s.page, s.visits, s.latest
FROM tallykeeper.partitioned_visit_pages_definition AS s
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE z.page = r.page)
UNION ALL SELECT z.page, z.visits, z.latest FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE true
) AS s WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.visits'::regclass)) OR tallykeeper.require_unbroken('golden.visits'::regclass))
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.partitioned_visit_pages_raw_changes() RETURNS TABLE (page text, visits bigint, latest date, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off SET jit TO off SET join_collapse_limit TO 1 SET from_collapse_limit TO 1
AS $body$

#variable_conflict use_column
DECLARE
  counts jsonb := (SELECT jsonb_object_agg(g.part, g.rows) FROM (
    SELECT l.tally_part AS part, count(*) AS rows FROM tallykeeper.partitioned_visit_pages_log AS l GROUP BY l.tally_part) AS g);
  pending smallint[] := ARRAY(SELECT k::smallint FROM jsonb_object_keys(counts) AS k);
  steps text;
BEGIN
  IF pending = '{}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    CASE WHEN pending && '{1}' THEN 'tally_p1 AS MATERIALIZED (
' || 'SELECT "1.day" AS day, "1.page" AS page, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.partitioned_visit_pages_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END' || ' GROUP BY "1.day", "1.page" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '1') || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_x_n1 AS MATERIALIZED (
' || 'SELECT DISTINCT CAST(g0 AS text) AS g0 FROM (
SELECT CAST(NULL AS text) AS g0 WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT "v"."page" AS g0
FROM tally_p1 AS "v"' ELSE '' END || '
) AS q' || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_new_n1 AS MATERIALIZED (
' || 'SELECT "v"."page" AS g0, COUNT(*) AS n, COUNT(*) AS a0, MAX("v"."day") AS a1 FROM "golden"."visits" AS "v" WHERE ("v"."page") IN (SELECT tally_k.g0 FROM tally_x_n1 AS tally_k) GROUP BY "v"."page"' || ')' END
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    'SELECT c.page::text, c.visits::bigint, c.latest::date, c.tally_total::bigint FROM ('
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || 'SELECT CAST(NULL AS text) AS page, CAST(NULL AS bigint) AS visits, CAST(NULL AS date) AS latest, 0 AS tally_total WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT CAST(c.g0 AS text) AS page, CAST(c.a0 AS bigint) AS visits, CAST(c.a1 AS date) AS latest, 1 FROM tally_new_n1 AS c
UNION ALL SELECT d.page, d.visits, d.latest, 0 FROM tally_x_n1 AS x JOIN partitioned.visit_pages AS d ON d.page = x.g0 WHERE NOT EXISTS (SELECT 1 FROM tally_new_n1 AS c WHERE c.g0 = x.g0)' ELSE '' END
    || ') AS c WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = ''r'' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN (''golden.visits''::regclass)) OR tallykeeper.require_unbroken(''golden.visits''::regclass))';
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.partitioned_visit_pages_changes() RETURNS TABLE (page text, visits bigint, latest date, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off
AS $body$

#variable_conflict use_column
BEGIN
  BEGIN
    RETURN QUERY SELECT * FROM tallykeeper.partitioned_visit_pages_raw_changes() AS c WHERE NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE z.page = c.page);
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
  END;
  RETURN QUERY SELECT e.page::text, e.visits::bigint, e.latest::date, 1::bigint FROM tallykeeper.partitioned_visit_pages_definition AS e
    WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.visits'::regclass)) OR tallykeeper.require_unbroken('golden.visits'::regclass)) AND NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE z.page = e.page);
  RETURN QUERY SELECT DISTINCT d.page::text, d.visits::bigint, d.latest::date, 0::bigint FROM partitioned.visit_pages AS d
    WHERE NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_definition AS e WHERE e.page = d.page)
    AND NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE z.page = d.page);
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.partitioned_visit_pages_changes_of(text[]) RETURNS TABLE (page text, visits bigint, latest date, tally_total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET row_security TO off SET jit TO off SET join_collapse_limit TO 1 SET from_collapse_limit TO 1
AS $body$

#variable_conflict use_column
DECLARE
  counts jsonb := (SELECT jsonb_object_agg(g.part, g.rows) FROM (
    SELECT l.tally_part AS part, count(*) AS rows FROM tallykeeper.partitioned_visit_pages_log AS l WHERE (coalesce("1.page") = ANY ($1)) GROUP BY l.tally_part) AS g);
  pending smallint[] := ARRAY(SELECT k::smallint FROM jsonb_object_keys(counts) AS k);
  steps text;
BEGIN
  IF pending = '{}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    CASE WHEN pending && '{1}' THEN 'tally_p1 AS MATERIALIZED (
' || 'SELECT "1.day" AS day, "1.page" AS page, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.partitioned_visit_pages_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END' || ' AND "1.page" = ANY ($1)' || ' GROUP BY "1.day", "1.page" HAVING sum(tally_sign) <> 0' || ' LIMIT ' || (counts ->> '1') || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_x_n1 AS MATERIALIZED (
' || 'SELECT DISTINCT CAST(g0 AS text) AS g0 FROM (
SELECT CAST(NULL AS text) AS g0 WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT "v"."page" AS g0
FROM tally_p1 AS "v"' ELSE '' END || '
) AS q' || '
WHERE g0 = ANY ($1)' || ')' END,
    CASE WHEN pending && '{1}' THEN 'tally_new_n1 AS MATERIALIZED (
' || 'SELECT "v"."page" AS g0, COUNT(*) AS n, COUNT(*) AS a0, MAX("v"."day") AS a1 FROM "golden"."visits" AS "v" WHERE ("v"."page") IN (SELECT tally_k.g0 FROM tally_x_n1 AS tally_k) GROUP BY "v"."page"' || ')' END
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    'SELECT c.page::text, c.visits::bigint, c.latest::date, c.tally_total::bigint FROM ('
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || 'SELECT CAST(NULL AS text) AS page, CAST(NULL AS bigint) AS visits, CAST(NULL AS date) AS latest, 0 AS tally_total WHERE false' || CASE WHEN pending && '{1}' THEN '
UNION ALL SELECT CAST(c.g0 AS text) AS page, CAST(c.a0 AS bigint) AS visits, CAST(c.a1 AS date) AS latest, 1 FROM tally_new_n1 AS c
UNION ALL SELECT d.page, d.visits, d.latest, 0 FROM tally_x_n1 AS x JOIN partitioned.visit_pages AS d ON d.page = x.g0 WHERE NOT EXISTS (SELECT 1 FROM tally_new_n1 AS c WHERE c.g0 = x.g0)' ELSE '' END
    || ') AS c WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = ''r'' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN (''golden.visits''::regclass)) OR tallykeeper.require_unbroken(''golden.visits''::regclass))' USING $1;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.partitioned_visit_pages_live_of(text[]) RETURNS TABLE (page TEXT, visits BIGINT, latest DATE)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC' SET jit TO off SET row_security TO off
AS $body$

#variable_conflict use_column
BEGIN
  IF NOT EXISTS (
    SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally = 'partitioned.visit_pages'
  ) THEN
    BEGIN
      RETURN QUERY WITH tally_changes AS MATERIALIZED (SELECT * FROM tallykeeper.partitioned_visit_pages_changes_of($1) AS c WHERE NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE z.page = c.page) AND NOT EXISTS (SELECT FROM (SELECT k.page FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (page TEXT) WHERE q.tally = 'partitioned.visit_pages') AS held_key WHERE held_key.page = c.page))
        SELECT d.page::TEXT, d.visits::BIGINT, d.latest::DATE FROM partitioned.visit_pages AS d WHERE d.page = ANY ($1)
          AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE c.page = d.page)
        UNION ALL SELECT f.page::TEXT, f.visits::BIGINT, f.latest::DATE FROM (
SELECT c.page, c.visits, c.latest FROM tally_changes AS c WHERE c.tally_total > 0 AND true
) AS f WHERE f.page = ANY ($1);
      IF EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'partitioned.visit_pages') THEN
        RETURN QUERY SELECT f.page::TEXT, f.visits::BIGINT, f.latest::DATE FROM (
SELECT r.page, r.visits, r.latest FROM (
SELECT s.page, s.visits, s.latest FROM tallykeeper.partitioned_visit_pages_definition AS s WHERE s.page = ANY (ARRAY(SELECT k.page FROM (SELECT DISTINCT * FROM unnest($1) AS k (page)) AS k)) AND EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (page)) AS k WHERE k.page = s.page)
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE z.page = r.page)
UNION ALL SELECT z.page, z.visits, z.latest FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (page)) AS k WHERE k.page = z.page)
) AS f WHERE EXISTS (SELECT FROM (SELECT k.page FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (page TEXT) WHERE q.tally = 'partitioned.visit_pages') AS held_key WHERE held_key.page = f.page);
      END IF;
      PERFORM ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('partitioned.visit_pages'::regclass)) OR tallykeeper.require_unbroken('partitioned.visit_pages'::regclass));
      RETURN;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR program_limit_exceeded OR raise_exception THEN NULL;
    END;
  END IF;
  RETURN QUERY SELECT f.page::TEXT, f.visits::BIGINT, f.latest::DATE FROM (
SELECT r.page, r.visits, r.latest FROM (
SELECT s.page, s.visits, s.latest FROM tallykeeper.partitioned_visit_pages_definition AS s WHERE s.page = ANY (ARRAY(SELECT k.page FROM (SELECT DISTINCT * FROM unnest($1) AS k (page)) AS k)) AND EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (page)) AS k WHERE k.page = s.page)
) AS r WHERE NOT EXISTS (SELECT FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE z.page = r.page)
UNION ALL SELECT z.page, z.visits, z.latest FROM tallykeeper.partitioned_visit_pages_pruned AS z WHERE EXISTS (SELECT FROM (SELECT DISTINCT * FROM unnest($1) AS k (page)) AS k WHERE k.page = z.page)
) AS f WHERE ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('golden.visits'::regclass)) OR tallykeeper.require_unbroken('golden.visits'::regclass));
END
$body$;

CREATE OR REPLACE VIEW tallykeeper.partitioned_visit_pages_definition AS
SELECT v.page, count(*) AS visits, max(v.day) AS latest FROM golden.visits AS v GROUP BY v.page;

CREATE OR REPLACE VIEW partitioned.visit_pages_live AS
WITH tally_changes AS MATERIALIZED (SELECT * FROM tallykeeper.partitioned_visit_pages_changes() AS c WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('partitioned.visit_pages')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'partitioned.visit_pages' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.partitioned_visit_pages_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('partitioned.visit_pages'::regclass)) OR tallykeeper.require_unbroken('partitioned.visit_pages'::regclass)) AND NOT EXISTS (SELECT FROM (SELECT k.page FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (page TEXT) WHERE q.tally = 'partitioned.visit_pages') AS held_key WHERE held_key.page = c.page))
SELECT d.page, d.visits, d.latest FROM partitioned.visit_pages AS d WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('partitioned.visit_pages')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'partitioned.visit_pages' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.partitioned_visit_pages_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('partitioned.visit_pages'::regclass)) OR tallykeeper.require_unbroken('partitioned.visit_pages'::regclass)) AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE c.page = d.page)
UNION ALL SELECT c.page, c.visits, c.latest FROM tally_changes AS c WHERE c.tally_total > 0 AND NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('partitioned.visit_pages')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'partitioned.visit_pages' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.partitioned_visit_pages_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('partitioned.visit_pages'::regclass)) OR tallykeeper.require_unbroken('partitioned.visit_pages'::regclass))
UNION ALL SELECT s.page, s.visits, s.latest FROM tallykeeper.partitioned_visit_pages_from_sources() AS s WHERE NOT (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('partitioned.visit_pages')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'partitioned.visit_pages' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.partitioned_visit_pages_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending)) AND ((SELECT count(*) = 1 AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid)) FROM pg_catalog.pg_class AS f WHERE f.oid IN ('partitioned.visit_pages'::regclass)) OR tallykeeper.require_unbroken('partitioned.visit_pages'::regclass)) AND EXISTS (SELECT FROM tallykeeper.quarantine AS q WHERE q.tally = 'partitioned.visit_pages') AND EXISTS (SELECT FROM (SELECT k.page FROM tallykeeper.quarantine AS q, jsonb_to_record(q.key) AS k (page TEXT) WHERE q.tally = 'partitioned.visit_pages') AS held_key WHERE held_key.page = s.page) AND true
UNION ALL SELECT s.page, s.visits, s.latest FROM tallykeeper.partitioned_visit_pages_from_sources() AS s WHERE (EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally IN ('partitioned.visit_pages')) OR EXISTS (SELECT FROM tallykeeper.refresh_costs AS c WHERE c.tally = 'partitioned.visit_pages' AND (SELECT count(*) FROM (SELECT FROM tallykeeper.partitioned_visit_pages_log AS l LIMIT c.most_pending + 1) AS p) > c.most_pending));
