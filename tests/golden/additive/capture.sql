CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['sold_at', 'product', 'cents']::text[], ARRAY['timestamp,timestamptz', 'int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.additive_revenue_daily_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.additive_revenue_daily_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN (new_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', new_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', new_rows.sold_at, 'UTC') END AS day, new_rows.product AS product, 1 AS lines, CAST(coalesce(new_rows.cents, 0) AS BIGINT) AS cents
FROM new_rows
WHERE new_rows.sold_at IS NOT NULL AND new_rows.product IS NOT NULL
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('additive.revenue_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN (new_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', new_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', new_rows.sold_at, 'UTC') END AS day, new_rows.product AS product, 1 AS lines, CAST(coalesce(new_rows.cents, 0) AS BIGINT) AS cents
FROM new_rows
WHERE new_rows.sold_at IS NOT NULL AND new_rows.product IS NOT NULL
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  ELSE
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT date_trunc('day', new_rows.sold_at, 'UTC') AS day, new_rows.product AS product, 1 AS lines, CAST(coalesce(new_rows.cents, 0) AS BIGINT) AS cents
FROM new_rows
WHERE new_rows.sold_at IS NOT NULL AND new_rows.product IS NOT NULL;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
  differs_1 boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['sold_at', 'product', 'cents']::text[], ARRAY['timestamp,timestamptz', 'int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.additive_revenue_daily_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.additive_revenue_daily_log') FROM old_rows OFFSET 1) OR EXISTS (SELECT tallykeeper.log_at('tallykeeper.additive_revenue_daily_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN (old_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', old_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', old_rows.sold_at, 'UTC') END AS day, old_rows.product AS product, -1 AS lines, -CAST(coalesce(old_rows.cents, 0) AS BIGINT) AS cents
FROM old_rows
WHERE old_rows.sold_at IS NOT NULL AND old_rows.product IS NOT NULL
    UNION ALL SELECT CASE WHEN (new_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', new_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', new_rows.sold_at, 'UTC') END AS day, new_rows.product AS product, 1 AS lines, CAST(coalesce(new_rows.cents, 0) AS BIGINT) AS cents
FROM new_rows
WHERE new_rows.sold_at IS NOT NULL AND new_rows.product IS NOT NULL
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('additive.revenue_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF NOT several THEN
  SELECT (date_trunc('day', old_rows.sold_at, 'UTC')) IS DISTINCT FROM (date_trunc('day', new_rows.sold_at, 'UTC')) OR (old_rows.product) IS DISTINCT FROM (new_rows.product) OR (old_rows.cents) IS DISTINCT FROM (new_rows.cents)
  INTO differs_1 FROM old_rows, new_rows;
  IF NOT FOUND THEN
  several := EXISTS (SELECT FROM old_rows) OR EXISTS (SELECT FROM new_rows);
  ELSE
  IF differs_1 THEN
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT date_trunc('day', old_rows.sold_at, 'UTC') AS day, old_rows.product AS product, -1 AS lines, -CAST(coalesce(old_rows.cents, 0) AS BIGINT) AS cents
FROM old_rows
WHERE old_rows.sold_at IS NOT NULL AND old_rows.product IS NOT NULL
  UNION ALL SELECT date_trunc('day', new_rows.sold_at, 'UTC') AS day, new_rows.product AS product, 1 AS lines, CAST(coalesce(new_rows.cents, 0) AS BIGINT) AS cents
FROM new_rows
WHERE new_rows.sold_at IS NOT NULL AND new_rows.product IS NOT NULL;
  END IF;
  END IF;
  END IF;
  IF several THEN
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN (old_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', old_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', old_rows.sold_at, 'UTC') END AS day, old_rows.product AS product, -1 AS lines, -CAST(coalesce(old_rows.cents, 0) AS BIGINT) AS cents
FROM old_rows
WHERE old_rows.sold_at IS NOT NULL AND old_rows.product IS NOT NULL
    UNION ALL SELECT CASE WHEN (new_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', new_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', new_rows.sold_at, 'UTC') END AS day, new_rows.product AS product, 1 AS lines, CAST(coalesce(new_rows.cents, 0) AS BIGINT) AS cents
FROM new_rows
WHERE new_rows.sold_at IS NOT NULL AND new_rows.product IS NOT NULL
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.sales', ARRAY['sold_at', 'product', 'cents']::text[], ARRAY['timestamp,timestamptz', 'int2,int4', 'int2,int4']::text[])
    AND tallykeeper.log_at('tallykeeper.additive_revenue_daily_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.additive_revenue_daily_log') FROM old_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN (old_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', old_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', old_rows.sold_at, 'UTC') END AS day, old_rows.product AS product, -1 AS lines, -CAST(coalesce(old_rows.cents, 0) AS BIGINT) AS cents
FROM old_rows
WHERE old_rows.sold_at IS NOT NULL AND old_rows.product IS NOT NULL
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('additive.revenue_daily', 'capture of golden.sales failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT deltas.day, deltas.product, sum(deltas.lines) AS lines, sum(deltas.cents) AS cents FROM (
    SELECT CASE WHEN (old_rows.sold_at < TIMESTAMPTZ '100000-01-01 00:00:00+00') THEN date_bin(INTERVAL '1 day', old_rows.sold_at, TIMESTAMPTZ '4714-11-24 00:00:00+00 BC') ELSE date_trunc('day', old_rows.sold_at, 'UTC') END AS day, old_rows.product AS product, -1 AS lines, -CAST(coalesce(old_rows.cents, 0) AS BIGINT) AS cents
FROM old_rows
WHERE old_rows.sold_at IS NOT NULL AND old_rows.product IS NOT NULL
  ) AS deltas GROUP BY day, product HAVING sum(lines) <> 0 OR sum(cents) <> 0;
  ELSE
  INSERT INTO tallykeeper.additive_revenue_daily_log (day, product, lines, cents)
  SELECT date_trunc('day', old_rows.sold_at, 'UTC') AS day, old_rows.product AS product, -1 AS lines, -CAST(coalesce(old_rows.cents, 0) AS BIGINT) AS cents
FROM old_rows
WHERE old_rows.sold_at IS NOT NULL AND old_rows.product IS NOT NULL;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_sales_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
BEGIN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('additive.revenue_daily', 'golden.sales was truncated');
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_revenue_daily_hand() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('additive.revenue_daily', 'edited by hand: a foreign key changed rows of golden.revenue_daily');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('additive.revenue_daily', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := (SELECT s.rows FROM tallykeeper.tally_state AS s WHERE s.tally = 'additive.revenue_daily');
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'additive.revenue_daily' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('additive.revenue_daily', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('additive.revenue_daily', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_revenue_daily_log() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('additive.revenue_daily', 'edited by hand: a foreign key changed rows of golden.revenue_daily');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('additive.revenue_daily', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := NULL;
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'additive.revenue_daily' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('additive.revenue_daily', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('additive.revenue_daily', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_revenue_daily_pruned() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('additive.revenue_daily', 'edited by hand: a foreign key changed rows of golden.revenue_daily');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('additive.revenue_daily', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := NULL;
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'additive.revenue_daily' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('additive.revenue_daily', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('additive.revenue_daily', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;
