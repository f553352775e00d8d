-- What the tallies named by the parameter depend on, as the catalog has it now: a WITH clause that
-- ends with `now`, one row for each object and tally. What is done with it follows in facts.py,
-- which also says in which :format it is recorded.
-- guard_merge is the function of a trigger that each system replaces, on every table of a kind.
WITH RECURSIVE root AS MATERIALIZED (
  SELECT s.tally, s.role, s.kind, s.name, s.columns,
         CASE WHEN s.kind = 'relation' THEN to_regclass(s.name)::oid END AS oid
  FROM tallykeeper.stands_on AS s WHERE s.tally = ANY (%(tallies)s)
), below (tally, role, root, oid) AS (
  SELECT tally, role, oid, oid FROM root WHERE oid IS NOT NULL
  UNION SELECT b.tally, b.role, b.root, i.inhrelid FROM below AS b
  JOIN pg_inherits AS i ON i.inhparent = b.oid
), above (tally, oid) AS (
  SELECT tally, oid FROM root WHERE role = 'source' AND oid IS NOT NULL
  UNION SELECT a.tally, i.inhparent FROM above AS a JOIN pg_inherits AS i ON i.inhrelid = a.oid
), member AS MATERIALIZED (
  SELECT tally, role, root, oid FROM below
  UNION SELECT a.tally, 'above', a.oid, a.oid FROM above AS a
  WHERE NOT EXISTS (SELECT FROM below AS b WHERE b.tally = a.tally AND b.oid = a.oid)
), recorded AS MATERIALIZED (
  -- What the catalog row says that no transaction has written since need not be found out again.
  SELECT DISTINCT ON (kind, name, part) kind, name, part, facts, identity
  FROM tallykeeper.dependencies WHERE tally = ANY (%(tallies)s)
), reader AS MATERIALIZED (
  SELECT oid, rolname, rolsuper OR rolbypassrls AS exempt FROM pg_roles
  WHERE rolname = current_user OR oid IN (
    SELECT p.proowner FROM pg_proc AS p JOIN root AS r ON r.kind = 'function'
    AND p.proname = r.columns[1] WHERE p.pronamespace = 'tallykeeper'::regnamespace)
), relation AS MATERIALIZED (
  SELECT c.oid, format('%%I.%%I', n.nspname, c.relname) AS name, jsonb_build_object(
    'kind', c.relkind, 'persistence', c.relpersistence, 'owner', pg_get_userbyid(c.relowner),
    'row security', c.relrowsecurity, 'forced', c.relforcerowsecurity,
    'parents', (SELECT array_agg(format('%%I.%%I', pn.nspname, p.relname) ORDER BY 1)
      FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent
      JOIN pg_namespace AS pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid),
    'detaching', (SELECT true FROM pg_inherits AS i
      WHERE i.inhrelid = c.oid AND i.inhdetachpending LIMIT 1),
    'options', (SELECT array_agg(o ORDER BY o) FROM unnest(c.reloptions) AS o
      WHERE c.relkind = 'v'),
    -- Renaming a column leaves the row of the view's rule, by which its text is known, as it was.
    'columns', (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute AS a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND c.relkind = 'v'),
    'text', CASE WHEN c.relkind = 'v' THEN CASE
      WHEN w.identity ->> 'row' = v.xmin::text AND (w.identity ->> 'oid')::oid = c.oid
      THEN w.facts ->> 'text' ELSE md5(pg_get_viewdef(c.oid)) END END,
    'rules', (SELECT array_agg(w.rulename || ' ' || w.ev_enabled::text || ' '
      || md5(pg_get_ruledef(w.oid)) ORDER BY w.rulename)
      FROM pg_rewrite AS w WHERE w.ev_class = c.oid AND w.rulename <> '_RETURN'),
    'constraints', (SELECT array_agg(k.conname ORDER BY k.conname) FROM pg_constraint AS k
      WHERE k.conrelid = c.oid AND k.contype IN ('c', 'x', 'f')
      AND c.relnamespace = 'tallykeeper'::regnamespace),
    'keys', (SELECT array_agg(k.columns ORDER BY k.columns) FROM (
      SELECT (SELECT string_agg(a.attname, ', ' ORDER BY u.n) FROM unnest(i.indkey::int2[])
          WITH ORDINALITY AS u (attnum, n) JOIN pg_attribute AS a ON a.attrelid = i.indrelid
          AND a.attnum = u.attnum WHERE u.n <= i.indnkeyatts)
        || CASE WHEN i.indnullsnotdistinct THEN ' (nulls too)' ELSE '' END AS columns
      FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate
      AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL) AS k
      WHERE c.relkind IN ('r', 'p') AND c.relnamespace <> 'tallykeeper'::regnamespace),
    'subscribed', (SELECT true FROM pg_subscription_rel AS s WHERE s.srrelid = c.oid LIMIT 1)
    ) AS facts,
    jsonb_build_object('oid', c.oid::bigint, 'storage', c.relfilenode::bigint,
      'row', v.xmin::text,
      'heirs', c.relhassubclass,
      'parents', (SELECT array_agg(i.xmin::text || ' ' || i.inhparent ORDER BY i.inhparent)
        FROM pg_inherits AS i WHERE i.inhrelid = c.oid)) AS identity,
    (SELECT array_agg(w.rolname ORDER BY w.rolname) FROM reader AS w WHERE c.relrowsecurity
      AND NOT w.exempt AND (c.relforcerowsecurity OR NOT pg_has_role(w.oid, c.relowner, 'USAGE'))
    ) AS filtered
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_rewrite AS v ON v.ev_class = c.oid AND v.rulename = '_RETURN'
  LEFT JOIN recorded AS w ON (w.kind, w.name, w.part)
    = ('relation', format('%%I.%%I', n.nspname, c.relname), '')
  WHERE c.oid IN (SELECT oid FROM member)
), hook AS MATERIALIZED (
  SELECT t.oid, t.tgrelid, t.tgfoid, t.tgname, t.tgenabled, t.xmin AS changed, t.tgparentid,
         (SELECT p.pronamespace FROM pg_proc AS p WHERE p.oid = t.tgfoid) = 'tallykeeper'::regnamespace AS ours
  FROM pg_trigger AS t WHERE NOT t.tgisinternal
), trigger AS MATERIALIZED (
  SELECT h.tgrelid, h.tgfoid, h.tgname, h.ours, CASE
    WHEN w.identity ->> 'row' = h.changed::text AND (w.identity ->> 'oid')::oid = h.oid
    THEN w.facts ELSE jsonb_build_object('enabled', h.tgenabled,
      'function', h.tgfoid::regproc::text, 'text', md5(pg_get_triggerdef(h.oid)),
      'ours', h.ours, 'cloned', h.tgparentid <> 0) END AS facts,
    jsonb_build_object('row', h.changed::text, 'oid', h.oid::bigint) AS identity
  FROM hook AS h LEFT JOIN relation AS r ON r.oid = h.tgrelid
  LEFT JOIN recorded AS w ON (w.kind, w.name, w.part) = ('trigger', r.name, h.tgname)
  WHERE h.ours OR h.tgname LIKE 'tallykeeper\_%%'
    OR h.tgrelid IN (SELECT oid FROM member WHERE role IN ('log', 'state', 'pruned', 'derived'))
), own AS MATERIALIZED (
  SELECT r.tally, p.oid, r.role FROM root AS r JOIN pg_namespace AS n ON r.kind = 'function'
  AND n.nspname = r.columns[2] JOIN pg_proc AS p ON p.pronamespace = n.oid
  AND p.proname = r.columns[1]
), member_trigger AS MATERIALIZED (
  -- Another system's capture of the same source is no matter of the tally.
  SELECT DISTINCT m.tally, m.role, t.* FROM member AS m JOIN trigger AS t ON t.tgrelid = m.oid
  WHERE NOT t.ours OR m.role IN ('log', 'state', 'pruned')
    OR EXISTS (SELECT FROM own AS o WHERE o.tally = m.tally AND o.oid = t.tgfoid)
    OR EXISTS (SELECT FROM tallykeeper.dependencies AS d JOIN relation AS r ON r.name = d.name
      WHERE r.oid = t.tgrelid AND (d.tally, d.kind, d.part) = (m.tally, 'trigger', t.tgname))
), called AS MATERIALIZED (
  SELECT DISTINCT tally, tgfoid AS oid FROM member_trigger
  UNION SELECT tally, oid FROM own
), function AS MATERIALIZED (
  SELECT p.oid, p.name, CASE WHEN p.pronamespace = 'tallykeeper'::regnamespace
    AND w.identity ->> 'row' = p.changed AND (w.identity ->> 'oid')::oid = p.oid
    THEN w.facts ELSE jsonb_build_object(
    'text', md5(p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') || coalesce(p.probin, '')),
    'language', (SELECT lanname FROM pg_language AS l WHERE l.oid = p.prolang),
    'definer', p.prosecdef, 'volatility', p.provolatile, 'strict', p.proisstrict,
    'settings', (SELECT array_agg(s ORDER BY s) FROM unnest(p.proconfig) AS s),
    'owner', pg_get_userbyid(p.proowner), 'returns', p.prorettype::regtype::text,
    'public', p.pronamespace = 'tallykeeper'::regnamespace AND EXISTS (
      SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
      WHERE a.grantee = 0),
    'granted', CASE WHEN p.prorettype = 'trigger'::regtype AND p.proname <> 'guard_merge' THEN (
      SELECT array_agg(pg_get_userbyid(a.grantee)::text ORDER BY 1) FROM aclexplode(p.proacl) AS a
      WHERE a.grantee NOT IN (0, p.proowner)) END,
    'rights', CASE WHEN p.pronamespace <> 'tallykeeper'::regnamespace THEN p.proacl::text END,
    'extension', (SELECT e.extname || ' ' || e.extversion FROM pg_depend AS d
      JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')) END AS facts,
    jsonb_build_object('row', p.changed, 'oid', p.oid::bigint) AS identity
  FROM (SELECT p.*, p.oid::regprocedure::text AS name, p.xmin::text AS changed FROM pg_proc AS p
    WHERE p.oid IN (SELECT oid FROM called)) AS p
  LEFT JOIN recorded AS w ON (w.kind, w.name) = ('function', p.name)
), attribute AS (
  SELECT r.tally, r.role, r.oid, a.attname, jsonb_build_object('type',
    format_type(a.atttypid, a.atttypmod), 'not null', a.attnotnull,
    'collation', CASE WHEN a.attcollation <> 0 THEN (
      SELECT format('%%I', k.collname) FROM pg_collation AS k WHERE k.oid = a.attcollation) END,
    'deterministic', (SELECT k.collisdeterministic FROM pg_collation AS k
      WHERE k.oid = a.attcollation),
    'generated', a.attgenerated, 'identity', a.attidentity,
    'expression', (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d
      WHERE a.attgenerated <> '' AND d.adrelid = a.attrelid AND d.adnum = a.attnum),
    'labels', (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum AS e
      WHERE e.enumtypid IN (y.oid, y.typelem)),
    'base', CASE WHEN y.typtype = 'd' THEN format_type(y.typbasetype, y.typtypmod) END,
    'constraints', (SELECT array_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname)
      FROM pg_constraint AS k WHERE y.typtype = 'd' AND k.contypid = y.oid),
    'fields', (SELECT array_agg(f.attname || ' ' || format_type(f.atttypid, f.atttypmod)
      ORDER BY f.attnum) FROM pg_attribute AS f
      WHERE y.typtype = 'c' AND f.attrelid = y.typrelid AND f.attnum > 0 AND NOT f.attisdropped),
    'extension', (SELECT e.extname || ' ' || e.extversion FROM pg_depend AS d
      JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
      WHERE d.classid = 'pg_type'::regclass AND d.objid = y.oid AND d.deptype = 'e')) AS facts,
    jsonb_build_object('row', a.xmin::text, 'number', a.attnum) AS identity
  FROM root AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
  AND NOT a.attisdropped AND (a.attname = ANY (r.columns) OR r.role = 'log')
  JOIN pg_type AS y ON y.oid = a.atttypid
), now (tally, role, kind, name, part, facts, identity, filtered) AS (
  SELECT m.tally, min(m.role), 'relation', r.name, '', r.facts, r.identity,
    -- Row security is that of the table which a statement names, not that of its partitions.
    CASE WHEN bool_or(m.oid = m.root AND m.role <> 'above') THEN r.filtered END
  FROM member AS m JOIN relation AS r ON r.oid = m.oid
  GROUP BY m.tally, r.name, r.facts, r.identity, r.filtered
  UNION ALL
  SELECT t.tally, min(t.role), 'trigger', r.name, t.tgname, t.facts, t.identity, NULL
  FROM member_trigger AS t JOIN relation AS r ON r.oid = t.tgrelid
  GROUP BY t.tally, r.name, t.tgname, t.facts, t.identity
  UNION ALL
  SELECT c.tally, coalesce((SELECT min(o.role) FROM own AS o
    WHERE o.tally = c.tally AND o.oid = c.oid), 'function'), 'function', f.name, '', f.facts,
    f.identity, NULL
  FROM called AS c JOIN function AS f ON f.oid = c.oid
  UNION ALL
  SELECT a.tally, min(a.role), 'column', r.name, a.attname, a.facts, a.identity, NULL
  FROM attribute AS a JOIN relation AS r ON r.oid = a.oid
  GROUP BY a.tally, r.name, a.attname, a.facts, a.identity
  UNION ALL
  SELECT DISTINCT c.tally, 'stray', 'trigger', t.tgrelid::regclass::text, t.tgname, t.facts,
    t.identity, NULL::name[]
  FROM trigger AS t JOIN own AS c ON c.oid = t.tgfoid
  JOIN pg_class AS k ON k.oid = t.tgrelid AND k.relpersistence <> 't'
  JOIN pg_proc AS p ON p.oid = t.tgfoid AND p.proname <> 'guard_merge'
  WHERE t.ours AND NOT (t.facts ->> 'cloned')::boolean
    AND NOT EXISTS (SELECT FROM member_trigger AS m
      WHERE m.tally = c.tally AND m.tgrelid = t.tgrelid AND m.tgfoid = t.tgfoid)
  UNION ALL
  SELECT t.tally, 'database', 'database', '', '',
    jsonb_build_object('format', :format,
      'version', current_setting('server_version_num')::int / 10000),
    jsonb_build_object('system', (SELECT system_identifier::text FROM pg_control_system()),
      'record', 'tallykeeper.dependencies'::regclass::oid::bigint), NULL
  FROM (SELECT DISTINCT tally FROM root) AS t
)
