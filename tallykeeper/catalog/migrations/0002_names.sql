-- Tables and columns that 0.2 and 0.1 named otherwise, and the words of those releases in rows.
-- An earlier one did not have all of them.
DO $$
DECLARE
  was record;
BEGIN
  IF to_regclass('tallykeeper.heard') IS NOT NULL THEN
    ALTER TABLE tallykeeper.heard RENAME TO processed_events;
  END IF;
  FOR was IN
    SELECT n.relation, n.before, n.after
    FROM (VALUES
      ('incidents', 'mended_at', 'resolved_at'),
      ('incidents', 'mended_by', 'resolved_by'),
      ('processed_events', 'heard_at', 'processed_at'),
      ('tally_state', 'pending_taken', 'pending_consumed'),
      ('unbuilt', 'mending', 'repair')
    ) AS n (relation, before, after)
    JOIN pg_attribute AS a ON a.attrelid = to_regclass('tallykeeper.' || n.relation)
      AND a.attname = n.before AND NOT a.attisdropped
  LOOP
    EXECUTE format(
      'ALTER TABLE tallykeeper.%I RENAME COLUMN %I TO %I', was.relation, was.before, was.after);
  END LOOP;
  IF to_regclass('tallykeeper.incidents') IS NOT NULL THEN
    UPDATE tallykeeper.incidents
    SET details = details - 'to_mend' || jsonb_build_object('to_resolve', details -> 'to_mend')
    WHERE details ? 'to_mend';
    UPDATE tallykeeper.messages SET kind = replace(kind, 'mended', 'resolved')
    WHERE kind IN ('mended', 'not mended');
  END IF;
  UPDATE tallykeeper.stale_marks SET reason = 'its capture was found broken and repaired'
  WHERE reason = 'its capture was found broken and mended';
END
$$;
