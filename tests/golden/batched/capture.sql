CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_products_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.products', ARRAY['id', 'words']::text[], ARRAY['int2,int4', 'TEXT[]']::text[])
    AND tallykeeper.log_at('tallykeeper.batched_product_words_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.batched_product_words_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT DISTINCT 0 AS part, CAST('all' AS TEXT) AS shelf, new_rows.id AS product
FROM new_rows;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('batched.product_words', 'capture of golden.products failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT DISTINCT 0 AS part, CAST('all' AS TEXT) AS shelf, new_rows.id AS product
FROM new_rows;
  ELSE
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT 0 AS part, CAST('all' AS TEXT) AS shelf, new_rows.id AS product
FROM new_rows;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_products_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
  differs_1 boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.products', ARRAY['id', 'words']::text[], ARRAY['int2,int4', 'TEXT[]']::text[])
    AND tallykeeper.log_at('tallykeeper.batched_product_words_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.batched_product_words_log') FROM old_rows OFFSET 1) OR EXISTS (SELECT tallykeeper.log_at('tallykeeper.batched_product_words_log') FROM new_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT DISTINCT 0 AS part, CAST('all' AS TEXT) AS shelf, changed_rows.id AS product
FROM (SELECT anon_1.id AS id, anon_1.words AS words
FROM (SELECT old_rows.id AS id, old_rows.words AS words
FROM old_rows EXCEPT ALL SELECT new_rows.id AS id, new_rows.words AS words
FROM new_rows) AS anon_1 UNION ALL SELECT anon_2.id AS id, anon_2.words AS words
FROM (SELECT new_rows.id AS id, new_rows.words AS words
FROM new_rows EXCEPT ALL SELECT old_rows.id AS id, old_rows.words AS words
FROM old_rows) AS anon_2) AS changed_rows;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('batched.product_words', 'capture of golden.products failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF NOT several THEN
  SELECT (old_rows.id) IS DISTINCT FROM (new_rows.id) OR (old_rows.words) IS DISTINCT FROM (new_rows.words)
  INTO differs_1 FROM old_rows, new_rows;
  IF NOT FOUND THEN
  several := EXISTS (SELECT FROM old_rows) OR EXISTS (SELECT FROM new_rows);
  ELSE
  IF differs_1 THEN
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT DISTINCT 0 AS part, CAST('all' AS TEXT) AS shelf, changed_rows.id AS product
FROM (SELECT old_rows.id AS id, old_rows.words AS words
FROM old_rows UNION ALL SELECT new_rows.id AS id, new_rows.words AS words
FROM new_rows) AS changed_rows;
  END IF;
  END IF;
  END IF;
  IF several THEN
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT DISTINCT 0 AS part, CAST('all' AS TEXT) AS shelf, changed_rows.id AS product
FROM (SELECT anon_1.id AS id, anon_1.words AS words
FROM (SELECT old_rows.id AS id, old_rows.words AS words
FROM old_rows EXCEPT ALL SELECT new_rows.id AS id, new_rows.words AS words
FROM new_rows) AS anon_1 UNION ALL SELECT anon_2.id AS id, anon_2.words AS words
FROM (SELECT new_rows.id AS id, new_rows.words AS words
FROM new_rows EXCEPT ALL SELECT old_rows.id AS id, old_rows.words AS words
FROM old_rows) AS anon_2) AS changed_rows;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_products_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
#variable_conflict use_column
DECLARE
  several boolean;
BEGIN
  several := CASE WHEN tallykeeper.columns_are('golden.products', ARRAY['id', 'words']::text[], ARRAY['int2,int4', 'TEXT[]']::text[])
    AND tallykeeper.log_at('tallykeeper.batched_product_words_log') IS NOT NULL
    THEN EXISTS (SELECT tallykeeper.log_at('tallykeeper.batched_product_words_log') FROM old_rows OFFSET 1) END;
  IF several IS NULL THEN
  BEGIN
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT DISTINCT 0 AS part, CAST('all' AS TEXT) AS shelf, old_rows.id AS product
FROM old_rows;
  EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation OR program_limit_exceeded OR raise_exception OR feature_not_supported THEN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES
    ('batched.product_words', 'capture of golden.products failed: ' || CASE WHEN SQLSTATE LIKE '42%' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);
  END;
  ELSE
  IF several THEN
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT DISTINCT 0 AS part, CAST('all' AS TEXT) AS shelf, old_rows.id AS product
FROM old_rows;
  ELSE
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT 0 AS part, CAST('all' AS TEXT) AS shelf, old_rows.id AS product
FROM old_rows;
  END IF;
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_products_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'
AS $body$
BEGIN
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('batched.product_words', 'golden.products was truncated');
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_product_words_hand_delete() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('batched.product_words', 'edited by hand: a foreign key changed rows of golden.product_words');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT 0, shelf, product FROM old_rows;
  IF TG_OP = 'TRUNCATE' THEN
    touched := (SELECT s.rows FROM tallykeeper.tally_state AS s WHERE s.tally = 'batched.product_words');
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'batched.product_words' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('batched.product_words', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('batched.product_words', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_product_words_hand_update() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('batched.product_words', 'edited by hand: a foreign key changed rows of golden.product_words');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.batched_product_words_log (part, shelf, product)
  SELECT 0, shelf, product FROM old_rows UNION SELECT 0, shelf, product FROM new_rows;
  IF TG_OP = 'TRUNCATE' THEN
    touched := (SELECT s.rows FROM tallykeeper.tally_state AS s WHERE s.tally = 'batched.product_words');
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'batched.product_words' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('batched.product_words', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('batched.product_words', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_product_words_hand() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('batched.product_words', 'edited by hand: a foreign key changed rows of golden.product_words');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('batched.product_words', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := (SELECT s.rows FROM tallykeeper.tally_state AS s WHERE s.tally = 'batched.product_words');
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'batched.product_words' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('batched.product_words', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('batched.product_words', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.capture_golden_product_words_log() RETURNS trigger
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
      INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('batched.product_words', 'edited by hand: a foreign key changed rows of golden.product_words');
    END IF;
    RETURN NULL;
  END IF;
  INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('batched.product_words', reason);
  IF TG_OP = 'TRUNCATE' THEN
    touched := NULL;
  ELSIF current_setting('track_counts')::boolean THEN
    touched := CASE TG_OP WHEN 'INSERT' THEN (SELECT sum(pg_stat_get_xact_tuples_inserted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'UPDATE' THEN (SELECT sum(pg_stat_get_xact_tuples_updated(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) WHEN 'DELETE' THEN (SELECT sum(pg_stat_get_xact_tuples_deleted(t.relation)) FROM (SELECT TG_RELID UNION SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation)) END;
    PERFORM pg_stat_force_next_flush();
  END IF;
  UPDATE tallykeeper.hand_edits AS e SET rows = touched WHERE e.tally = 'batched.product_words' AND e.at = now() AND e.operation = done;
  IF NOT FOUND THEN
    INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at, rows) VALUES ('batched.product_words', done, session_user, current_setting('application_name'), now(), touched);
    INSERT INTO tallykeeper.unverified (tally, windows) VALUES ('batched.product_words', '{(,)}');
  END IF;
  RETURN NULL;
END
$body$;
