-- The functions around an application's own migrations: suspend, resume, and what refuses reads in
-- between. suspension.py puts them into databases; each ends with the line `-- end`.
CREATE OR REPLACE FUNCTION tallykeeper.refuse_suspended(reason text) RETURNS boolean
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp
AS $body$
BEGIN
  RAISE EXCEPTION '%', reason;
END$body$
-- end
CREATE OR REPLACE FUNCTION tallykeeper.suspend(tally text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp
AS $body$
DECLARE
  derived text;
  held record;
  each record;
  nothing text;
  why text;
BEGIN
  SELECT s.name INTO derived FROM tallykeeper.stands_on AS s
  WHERE s.tally = suspend.tally AND s.role = 'derived';
  IF derived IS NULL THEN
    RAISE EXCEPTION 'no tally is called %; there are %', coalesce(suspend.tally, 'NULL'), coalesce(
      (SELECT string_agg(t.tally, ', ' ORDER BY t.tally) FROM tallykeeper.tally_state AS t), 'none');
  END IF;
  -- A refresh that runs ends first, and none begins before this transaction has ended.
  EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', derived);
  SELECT * INTO held FROM tallykeeper.suspensions AS s WHERE s.tally = suspend.tally;
  IF FOUND THEN
    RETURN format('%s is suspended since %s', suspend.tally, held.suspended_at);
  END IF;
  why := format('%s is suspended since %s by %s; tallykeeper.resume(%L) ends it, or `tally migrate`',
    suspend.tally, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), session_user,
    suspend.tally);
  INSERT INTO tallykeeper.suspensions (tally, role) VALUES (suspend.tally, session_user);
  -- The live view first, for it stands on the definition view.
  FOR each IN
    SELECT c.oid, v.what, format('%I.%I', n.nspname, c.relname) AS name,
           rtrim(pg_get_viewdef(c.oid), ';') AS query, c.relacl, c.relowner, c.reloptions
    FROM (
      SELECT 'live', to_regclass(s.name) FROM tallykeeper.stands_on AS s
      WHERE s.tally = suspend.tally AND s.role = 'live'
      UNION ALL
      SELECT 'definition', to_regclass(format('tallykeeper.%I',
        replace(suspend.tally, '.', '_') || '_definition'))
    ) AS v (what, oid)
    JOIN pg_class AS c ON c.oid = v.oid AND c.relkind = 'v'
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    ORDER BY v.what DESC
  LOOP
    SELECT string_agg(format('NULL::%s%s AS %I', format_type(a.atttypid, a.atttypmod), coalesce(
      (SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation AS l
       JOIN pg_namespace AS n ON n.oid = l.collnamespace
       WHERE l.oid = a.attcollation AND a.attcollation <> t.typcollation), ''), a.attname),
      ', ' ORDER BY a.attnum) INTO nothing
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = each.oid AND a.attnum > 0 AND NOT a.attisdropped;
    UPDATE tallykeeper.suspensions AS s SET
      live = CASE each.what WHEN 'live' THEN each.name ELSE s.live END,
      live_query = CASE each.what WHEN 'live' THEN each.query ELSE s.live_query END,
      live_options = CASE each.what WHEN 'live' THEN each.reloptions ELSE s.live_options END,
      definition = CASE each.what WHEN 'live' THEN s.definition ELSE each.name END,
      definition_query = CASE each.what WHEN 'live' THEN s.definition_query ELSE each.query END
    WHERE s.tally = suspend.tally;
    -- In place: what others have made over the view stays, and so do their rights.
    EXECUTE format('CREATE OR REPLACE VIEW %s AS SELECT %s WHERE tallykeeper.refuse_suspended(%L)',
      each.name, nothing, why);
    -- That it reads nothing is no fault of the installation.
    UPDATE tallykeeper.dependencies AS d
    SET facts = jsonb_set(d.facts, '{text}', to_jsonb(md5(pg_get_viewdef(each.oid))))
    WHERE d.tally = suspend.tally AND d.kind = 'relation' AND to_regclass(d.name) = each.oid
    AND d.facts ->> 'text' = md5(each.query || ';');
    -- PostgreSQL asks who reads a view for the functions in it.
    FOR held IN
      SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC'
        ELSE (SELECT quote_ident(r.rolname) FROM pg_roles AS r WHERE r.oid = a.grantee) END AS role
      FROM aclexplode(each.relacl) AS a
      WHERE a.privilege_type = 'SELECT' AND a.grantee <> each.relowner
    LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION tallykeeper.refuse_suspended(text) TO %s',
        held.role);
    END LOOP;
  END LOOP;
  INSERT INTO tallykeeper.stale_marks (tally, reason)
  VALUES (suspend.tally, 'suspended by ' || session_user);
  RETURN format('suspended %s', suspend.tally);
END$body$
-- end
CREATE OR REPLACE FUNCTION tallykeeper.resume(tally text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp
AS $body$
DECLARE
  held record;
  granted text[];
  statement text;
  shown text;
  live_was text;
  definition_was text;
  is_other boolean := false;
  other_types text := format('resumed %s, whose columns are of other types now: run `tally'
    ' migrate`; until then its live view reads the sources', resume.tally);
  said text := format('resumed %s; the next refresh rebuilds it', resume.tally);
BEGIN
  SELECT * INTO held FROM tallykeeper.suspensions AS s WHERE s.tally = resume.tally FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION '% is not suspended', coalesce(resume.tally, 'NULL');
  END IF;
  live_was := md5(pg_get_viewdef(to_regclass(held.live)));
  definition_was := md5(pg_get_viewdef(to_regclass(held.definition)));
  IF held.definition IS NOT NULL THEN
    BEGIN
      EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', held.definition, held.definition_query);
    EXCEPTION
      WHEN invalid_table_definition THEN
        -- A column of it is of another type now, for which the view has to be made anew.
        SELECT array_agg(format('GRANT %s ON %s TO %s', a.privilege_type, held.definition,
          CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END)) INTO granted
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        LEFT JOIN pg_roles AS r ON r.oid = a.grantee
        WHERE c.oid = to_regclass(held.definition) AND a.grantee <> c.relowner;
        EXECUTE format('DROP VIEW %s', held.definition);
        EXECUTE format('CREATE VIEW %s AS %s', held.definition, held.definition_query);
        FOREACH statement IN ARRAY coalesce(granted, '{}') LOOP
          EXECUTE statement;
        END LOOP;
        said := other_types;
      WHEN syntax_error_or_access_rule_violation OR feature_not_supported THEN
        RAISE EXCEPTION '% cannot be resumed: %. Its SELECT uses what this transaction changed:'
          ' keep that, or change the SELECT and call `tally migrate` instead of resume',
          resume.tally, SQLERRM;
    END;
  END IF;
  IF held.live IS NOT NULL THEN
    BEGIN
      EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', held.live, held.live_query);
    EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
      -- The stored changes are of the former types: until it is compiled again, the view reads
      -- the SELECT itself, each column as the view had it.
      is_other := true;
      said := other_types;
      SELECT string_agg(CASE a.attname WHEN 'tally_copy' THEN (
          SELECT format('(row_number() OVER (PARTITION BY %s))::integer AS tally_copy',
            string_agg(format('s.%I', d.attname), ', ' ORDER BY d.attnum))
          FROM pg_attribute AS d
          WHERE d.attrelid = to_regclass(held.definition) AND d.attnum > 0)
        ELSE format('s.%I::%s AS %I', a.attname, format_type(a.atttypid, a.atttypmod), a.attname)
        END, ', ' ORDER BY a.attnum) INTO shown
      FROM pg_attribute AS a
      WHERE a.attrelid = to_regclass(held.live) AND a.attnum > 0 AND NOT a.attisdropped;
      BEGIN
        EXECUTE format('CREATE OR REPLACE VIEW %s AS SELECT %s FROM %s AS s', held.live, shown,
          held.definition);
      EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
        said := format('resumed %s, whose columns are of other types now: run `tally migrate`;'
          ' until then its live view cannot be read', resume.tally);
      END;
    END;
    IF held.live_options IS NOT NULL THEN
      EXECUTE format('ALTER VIEW %s SET (%s)', held.live,
        (SELECT string_agg(o, ', ') FROM unnest(held.live_options) AS o));
    END IF;
  END IF;
  -- A view that is made of its own definition may be spelled otherwise, which is no difference.
  UPDATE tallykeeper.dependencies AS d
  SET facts = jsonb_set(d.facts, '{text}', to_jsonb(md5(pg_get_viewdef(to_regclass(d.name)))))
  FROM (VALUES (held.live, live_was), (held.definition, definition_was)) AS v (name, was)
  WHERE d.tally = resume.tally AND d.kind = 'relation' AND to_regclass(d.name) = to_regclass(v.name)
  AND d.facts ->> 'text' = v.was AND NOT is_other;
  DELETE FROM tallykeeper.suspensions AS s WHERE s.tally = resume.tally;
  RETURN said;
END$body$
-- end
