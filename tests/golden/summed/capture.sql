CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_insert_095f8dd8() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['sold_at', 'product', 'cents']::text[], ARRAY['timestamp,timestamptz', 'int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.summed_sales_daily_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.summed_sales_daily_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, 1 AS lines, coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM new_rows AS tally_row
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('summed.sales_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  BEGIN
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, 1 AS lines, coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM new_rows AS tally_row
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('summed.sales_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) AS day, tally_row."product" AS product, 1 AS lines, coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM new_rows AS tally_row;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_update_095f8dd8() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
  differs_1 boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['sold_at', 'product', 'cents']::text[], ARRAY['timestamp,timestamptz', 'int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.summed_sales_daily_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.summed_sales_daily_log') FROM old_rows OFFSET 1) OR EXISTS (SELECT tallykeeper.log_at('tallykeeper.summed_sales_daily_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, -1 AS lines, -coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM old_rows AS tally_row
    UNION ALL SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, 1 AS lines, coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM new_rows AS tally_row
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('summed.sales_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF NOT several THEN
  SELECT (date_trunc(CAST('day' AS TEXT), old_rows."sold_at", CAST('UTC' AS TEXT))) IS DISTINCT FROM (date_trunc(CAST('day' AS TEXT), new_rows."sold_at", CAST('UTC' AS TEXT))) OR (old_rows."product") IS DISTINCT FROM (new_rows."product") OR (CAST(old_rows."cents" AS BIGINT)) IS DISTINCT FROM (CAST(new_rows."cents" AS BIGINT))
  INTO differs_1 FROM old_rows, new_rows;
  IF NOT FOUND THEN
  several := EXISTS (SELECT FROM old_rows) OR EXISTS (SELECT FROM new_rows);
  ELSE
  IF differs_1 THEN
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) AS day, tally_row."product" AS product, -1 AS lines, -coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM old_rows AS tally_row
  UNION ALL SELECT date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) AS day, tally_row."product" AS product, 1 AS lines, coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM new_rows AS tally_row;
  END IF;
  END IF;
  END IF;
  IF several THEN
  BEGIN
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, -1 AS lines, -coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM old_rows AS tally_row
    UNION ALL SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, 1 AS lines, coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM new_rows AS tally_row
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('summed.sales_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_delete_095f8dd8() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['sold_at', 'product', 'cents']::text[], ARRAY['timestamp,timestamptz', 'int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.summed_sales_daily_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.summed_sales_daily_log') FROM old_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, -1 AS lines, -coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM old_rows AS tally_row
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('summed.sales_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  BEGIN
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN tally_row."sold_at" < CAST('100000-01-01 00:00:00+00' AS TIMESTAMPTZ) THEN date_bin(INTERVAL '1 DAY', tally_row."sold_at", CAST('4714-11-24 00:00:00+00 BC' AS TIMESTAMPTZ)) ELSE date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) END AS day, tally_row."product" AS product, -1 AS lines, -coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM old_rows AS tally_row
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('summed.sales_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  INSERT INTO tallykeeper.summed_sales_daily_log (day, product, lines, cents)
  SELECT date_trunc(CAST('day' AS TEXT), tally_row."sold_at", CAST('UTC' AS TEXT)) AS day, tally_row."product" AS product, -1 AS lines, -coalesce(CAST(tally_row."cents" AS BIGINT), 0)::BIGINT AS cents FROM old_rows AS tally_row;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_truncate_095f8dd8() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
BEGIN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('summed.sales_daily', 'golden.sales was truncated');
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_summed_sales_daily_hand() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  done text := CASE WHEN TG_OP = 'INSERT' AND current_query() ~* '^\s*copy\s' THEN 'COPY' ELSE TG_OP END || '';
  touched bigint;
  reason text := 'edited by hand: ' || done || ' by ' || session_user || coalesce(' through ' || nullif(current_setting('application_name'), ''), '') || to_char(now() AT TIME ZONE 'UTC', '" at "YYYY-MM-DD HH24:MI:SS" UTC"');
BEGIN
  IF (pg_trigger_depth() % 2 = TG_ARGV[0]::integer) AND TG_OP IN ('DELETE', 'UPDATE') THEN
    IF TG_OP NOT IN ('') THEN
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('summed.sales_daily', 'edited by hand: a foreign key changed rows of summed.sales_daily');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('summed.sales_daily', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := (SELECT s.rows FROM tallykeeper.tally_state AS s WHERE s.tally = 'summed.sales_daily');
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'summed.sales_daily' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('summed.sales_daily', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('summed.sales_daily', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_summed_sales_daily_log() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  done text := CASE WHEN TG_OP = 'INSERT' AND current_query() ~* '^\s*copy\s' THEN 'COPY' ELSE TG_OP END || ' of its change log';
  touched bigint;
  reason text := 'edited by hand: ' || done || ' by ' || session_user || coalesce(' through ' || nullif(current_setting('application_name'), ''), '') || to_char(now() AT TIME ZONE 'UTC', '" at "YYYY-MM-DD HH24:MI:SS" UTC"');
BEGIN
  IF (pg_trigger_depth() % 2 = TG_ARGV[0]::integer) AND TG_OP IN ('DELETE', 'UPDATE') THEN
    IF TG_OP NOT IN ('') THEN
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('summed.sales_daily', 'edited by hand: a foreign key changed rows of summed.sales_daily');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('summed.sales_daily', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := NULL;
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'summed.sales_daily' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('summed.sales_daily', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('summed.sales_daily', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_summed_sales_daily_pruned() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  done text := CASE WHEN TG_OP = 'INSERT' AND current_query() ~* '^\s*copy\s' THEN 'COPY' ELSE TG_OP END || ' of what pruned rows had added';
  touched bigint;
  reason text := 'edited by hand: ' || done || ' by ' || session_user || coalesce(' through ' || nullif(current_setting('application_name'), ''), '') || to_char(now() AT TIME ZONE 'UTC', '" at "YYYY-MM-DD HH24:MI:SS" UTC"');
BEGIN
  IF (pg_trigger_depth() % 2 = TG_ARGV[0]::integer) AND TG_OP IN ('DELETE', 'UPDATE') THEN
    IF TG_OP NOT IN ('') THEN
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('summed.sales_daily', 'edited by hand: a foreign key changed rows of summed.sales_daily');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('summed.sales_daily', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := NULL;
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'summed.sales_daily' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('summed.sales_daily', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('summed.sales_daily', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;
