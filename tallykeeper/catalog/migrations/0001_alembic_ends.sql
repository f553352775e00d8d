-- Until 0.2 Alembic kept the derived tables, and noted here how far it had come. They follow from
-- their declarations now. What is left in its table refuses those releases, which would put their
-- own capture back and go on beside this one.
DO $$
BEGIN
  IF to_regclass('tallykeeper.alembic_version') IS NOT NULL THEN
    UPDATE tallykeeper.alembic_version
    SET version_num = regexp_replace(version_num, '_[0-9]+$', '_after_0_2');
  END IF;
END
$$;
