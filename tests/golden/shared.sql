CREATE OR REPLACE FUNCTION tallykeeper.require_unbroken(VARIADIC sources regclass[]) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp
AS $body$

BEGIN
  IF EXISTS (
    WITH RECURSIVE tree AS (
      SELECT s::oid AS relation FROM unnest(sources) AS s
      UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.relation
    )
    SELECT FROM tree LEFT JOIN pg_class AS c ON c.oid = tree.relation
    WHERE c.oid IS NULL
      OR c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
  ) THEN
    RAISE SQLSTATE '40001' USING
      MESSAGE = 'a table was made, truncated or rewritten after this snapshot was taken',
      HINT = 'Read again, in a new transaction where this one keeps its snapshot.';
  END IF;
  RETURN true;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.columns_are(relation text, names text[], types text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path TO pg_catalog, pg_temp
AS $body$

DECLARE
  question text;
  answer boolean;
BEGIN
  SELECT string_agg(format(
    CASE WHEN type = '' THEN '(s.r).%1$I IS NULL'
    ELSE 'pg_typeof((s.r).%1$I) = ANY (%2$L::regtype[])' END, name, '{' || type || '}'), ' AND ')
  INTO question FROM unnest(names, types) AS c (name, type);
  EXECUTE format('SELECT %s FROM (SELECT NULL::%s) AS s (r)', question, relation) INTO answer;
  RETURN answer;
EXCEPTION
  WHEN syntax_error_or_access_rule_violation THEN RETURN false;
END
$body$;

CREATE OR REPLACE FUNCTION tallykeeper.log_at(name text) RETURNS regclass
LANGUAGE plpgsql IMMUTABLE SET search_path TO pg_catalog, pg_temp
AS $body$
BEGIN RETURN to_regclass(name); END
$body$;
