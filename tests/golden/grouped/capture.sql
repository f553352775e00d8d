CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_insert_07060396() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['product', 'cents']::text[], ARRAY['int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.grouped_sale_extremes_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.grouped_sale_extremes_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, 1, tally_row.product, tally_row.cents FROM new_rows AS tally_row;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('grouped.sale_extremes', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, 1, tally_row.product, tally_row.cents FROM new_rows AS tally_row;
  ELSE
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, 1, tally_row.product, tally_row.cents FROM new_rows AS tally_row;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_update_07060396() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
  differs_1 boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['product', 'cents']::text[], ARRAY['int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.grouped_sale_extremes_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.grouped_sale_extremes_log') FROM old_rows OFFSET 1) OR EXISTS (SELECT tallykeeper.log_at('tallykeeper.grouped_sale_extremes_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, sign(total)::integer, c0, c1 FROM (
    SELECT sum(sign) AS total, c0, c1 FROM (
    SELECT -1 AS sign, tally_row.product AS c0, tally_row.cents AS c1 FROM old_rows AS tally_row
    UNION ALL SELECT 1 AS sign, tally_row.product AS c0, tally_row.cents AS c1 FROM new_rows AS tally_row
    ) AS images GROUP BY c0, c1 HAVING sum(sign) <> 0
  ) AS net CROSS JOIN generate_series(1, abs(total));
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('grouped.sale_extremes', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF NOT several THEN
  SELECT (ROW(old_rows.product, old_rows.cents)::record *<> ROW(new_rows.product, new_rows.cents)::record)
  INTO differs_1 FROM old_rows, new_rows;
  IF NOT FOUND THEN
  several := EXISTS (SELECT FROM old_rows) OR EXISTS (SELECT FROM new_rows);
  ELSE
  IF differs_1 THEN
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, -1, tally_row.product, tally_row.cents FROM old_rows AS tally_row
  UNION ALL SELECT 1, 1, tally_row.product, tally_row.cents FROM new_rows AS tally_row;
  END IF;
  END IF;
  END IF;
  IF several THEN
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, sign(total)::integer, c0, c1 FROM (
    SELECT sum(sign) AS total, c0, c1 FROM (
    SELECT -1 AS sign, tally_row.product AS c0, tally_row.cents AS c1 FROM old_rows AS tally_row
    UNION ALL SELECT 1 AS sign, tally_row.product AS c0, tally_row.cents AS c1 FROM new_rows AS tally_row
    ) AS images GROUP BY c0, c1 HAVING sum(sign) <> 0
  ) AS net CROSS JOIN generate_series(1, abs(total));
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_delete_07060396() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['product', 'cents']::text[], ARRAY['int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.grouped_sale_extremes_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.grouped_sale_extremes_log') FROM old_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, -1, tally_row.product, tally_row.cents FROM old_rows AS tally_row;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('grouped.sale_extremes', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, -1, tally_row.product, tally_row.cents FROM old_rows AS tally_row;
  ELSE
  INSERT INTO tallykeeper.grouped_sale_extremes_log (tally_part, tally_sign, "1.product", "1.cents")
  SELECT 1, -1, tally_row.product, tally_row.cents FROM old_rows AS tally_row;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_truncate_07060396() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
BEGIN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('grouped.sale_extremes', 'golden.sales was truncated');
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_grouped_sale_extremes_hand() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('grouped.sale_extremes', 'edited by hand: a foreign key changed rows of grouped.sale_extremes');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('grouped.sale_extremes', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := (SELECT s.rows FROM tallykeeper.tally_state AS s WHERE s.tally = 'grouped.sale_extremes');
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'grouped.sale_extremes' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('grouped.sale_extremes', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('grouped.sale_extremes', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_grouped_sale_extremes_log() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('grouped.sale_extremes', 'edited by hand: a foreign key changed rows of grouped.sale_extremes');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('grouped.sale_extremes', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := NULL;
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'grouped.sale_extremes' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('grouped.sale_extremes', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('grouped.sale_extremes', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_grouped_sale_extremes_pruned() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  done text := CASE WHEN TG_OP = 'INSERT' AND current_query() ~* '^\s*copy\s' THEN 'COPY' ELSE TG_OP END || ' of its frozen groups';
  touched bigint;
  reason text := 'edited by hand: ' || done || ' by ' || session_user || coalesce(' through ' || nullif(current_setting('application_name'), ''), '') || to_char(now() AT TIME ZONE 'UTC', '" at "YYYY-MM-DD HH24:MI:SS" UTC"');
BEGIN
  IF (pg_trigger_depth() % 2 = TG_ARGV[0]::integer) AND TG_OP IN ('DELETE', 'UPDATE') THEN
    IF TG_OP NOT IN ('') THEN
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('grouped.sale_extremes', 'edited by hand: a foreign key changed rows of grouped.sale_extremes');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('grouped.sale_extremes', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := NULL;
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'grouped.sale_extremes' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('grouped.sale_extremes', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('grouped.sale_extremes', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;
