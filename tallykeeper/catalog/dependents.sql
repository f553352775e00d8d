-- What depends on an object, and on that, with how it is dropped and created again. Views depend on
-- a relation by their rule, and on each other; a row type stands for its relation.
WITH RECURSIVE hung (classid, objid, subid, level) AS (
  SELECT CAST(CAST(:catalog AS regclass) AS oid), CAST(:oid AS oid), 0, 0
  UNION
  SELECT n.classid, n.objid, n.subid, h.level + 1
  FROM hung AS h
  JOIN pg_depend AS d ON d.refclassid = h.classid AND d.refobjid = h.objid
  LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    AND r.rulename = '_RETURN'
  CROSS JOIN LATERAL (
    SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass::oid END,
           coalesce(r.ev_class, d.objid), d.objsubid
  ) AS n (classid, objid, subid)
  WHERE (n.classid, n.objid) <> (h.classid, h.objid) AND h.level < 100
  -- A column of somebody's table is not the table.
  AND h.subid = 0
  AND (h.level > 0 OR d.refobjsubid = 0 AND :whole OR d.refobjsubid IN (
    SELECT attnum FROM pg_attribute
    WHERE attrelid = :oid AND (:whole OR attname = ANY (CAST(:columns AS text[])))
  ) OR h.classid <> 'pg_class'::regclass)
), latest AS (
  SELECT classid, objid, subid, max(level) AS level FROM hung WHERE level > 0
  GROUP BY classid, objid, subid
)
SELECT l.objid AS oid, i.type AS kind, i.identity AS name,
  CASE l.classid
    WHEN 'pg_class'::regclass THEN CASE
      WHEN c.relkind IN ('v', 'm') THEN
        format('CREATE %s %s AS%s%s', upper(i.type), i.identity, E'\n', pg_get_viewdef(l.objid))
      WHEN c.relkind = 'i' THEN pg_get_indexdef(l.objid) || ';' END
    WHEN 'pg_proc'::regclass THEN pg_get_functiondef(l.objid) || ';'
    WHEN 'pg_trigger'::regclass THEN pg_get_triggerdef(l.objid) || ';'
    WHEN 'pg_rewrite'::regclass THEN pg_get_ruledef(l.objid)
  END AS creation,
  (SELECT string_agg(pg_get_indexdef(x.indexrelid) || ';', E'\n' ORDER BY x.indexrelid)
   FROM pg_index AS x WHERE c.relkind = 'm' AND x.indrelid = c.oid) AS indexes
FROM latest AS l
CROSS JOIN LATERAL pg_identify_object(l.classid, l.objid, l.subid) AS i
LEFT JOIN pg_class AS c ON l.classid = 'pg_class'::regclass AND c.oid = l.objid
WHERE NOT (l.classid = 'pg_type'::regclass AND EXISTS (
  SELECT FROM pg_type AS t WHERE t.oid = l.objid AND (t.typrelid <> 0 OR t.typelem <> 0)
))
AND NOT (coalesce(c.relkind IN ('i', 't'), false) AND l.level > 1)
ORDER BY l.level, i.type, i.identity
