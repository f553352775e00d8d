-- Who may read a view that calls functions of the engine, or a view over such a one, with the
-- functions: a WITH clause that ends with `readers`. What is selected follows in
-- function_rights.py.
WITH RECURSIVE calling AS (
  SELECT r.ev_class AS view, p.oid AS function
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'tallykeeper' JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass
    AND d.refobjid = p.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite AS r ON r.oid = d.objid
  UNION
  SELECT r.ev_class, c.function
  FROM calling AS c JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass
    AND d.refobjid = c.view AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite AS r ON r.oid = d.objid
), readers AS (
  SELECT v.oid AS view, v.relowner AS role, c.function
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view
  UNION
  SELECT v.oid, a.grantee, c.function
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view, aclexplode(v.relacl) AS a
  WHERE a.privilege_type = 'SELECT'
  UNION
  SELECT v.oid, a.grantee, c.function
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view
  JOIN pg_attribute AS t ON t.attrelid = v.oid, aclexplode(t.attacl) AS a
  WHERE a.privilege_type = 'SELECT'
  UNION
  SELECT c.view, 'pg_read_all_data'::regrole, c.function FROM calling AS c
  UNION
  -- What runs with the caller's own rights, and is part of what applications ask.
  SELECT c.view, a.grantee, p.oid
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view, aclexplode(v.relacl) AS a, pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'tallykeeper'
  WHERE a.privilege_type = 'SELECT' AND a.grantee <> 0 AND NOT p.prosecdef AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  UNION
  -- Who may read all of a live view may look up its rows by key.
  SELECT v.oid, a.grantee, q.oid
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'tallykeeper'
  JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass
    AND d.refobjid = p.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite AS r ON r.oid = d.objid JOIN pg_class AS v ON v.oid = r.ev_class
  JOIN pg_proc AS q ON q.pronamespace = p.pronamespace
    AND q.proname = regexp_replace(p.proname, '_changes$', '_live_of')
  CROSS JOIN aclexplode(coalesce(v.relacl, acldefault('r', v.relowner))) AS a
  WHERE p.proname LIKE '%\_changes' AND a.privilege_type = 'SELECT'
  UNION
  -- A partition created later copies the guard of its root, and its creator is asked for EXECUTE.
  SELECT r.oid, r.relowner, t.tgfoid
  FROM pg_trigger AS t JOIN pg_class AS r ON r.oid = t.tgrelid
  JOIN pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'tallykeeper' ON p.oid = t.tgfoid
  WHERE t.tgtype & 1 = 1
)
