-- The digest of the catalog rows that a tally depends on: each row's number and the transaction
-- that wrote it. Row security depends on the role that asks: there is no digest where a table has
-- it.
-- Numbers from 16384 on are those of objects that users made.
SELECT CASE WHEN NOT bool_or(coalesce(secured, false)) THEN
  md5(string_agg(line, E'\n' ORDER BY line COLLATE pg_catalog."C")) END
FROM (
  SELECT array_agg((identity ->> 'oid')::oid) FILTER (WHERE kind = 'relation') AS relations,
    array_agg((identity ->> 'oid')::oid) FILTER (WHERE kind = 'function') AS functions
  FROM tallykeeper.dependencies WHERE tally = %(tally)s
) AS o CROSS JOIN LATERAL (
  SELECT concat_ws(' ', 'now', current_setting('server_version_num'),
    (SELECT system_identifier FROM pg_control_system()),
    'tallykeeper.dependencies'::regclass::oid) AS line, NULL::boolean AS secured
  UNION ALL SELECT concat_ws(' ', 'named', name, to_regclass(name)::oid), NULL
    FROM tallykeeper.stands_on WHERE tally = %(tally)s AND kind = 'relation'
  UNION ALL SELECT concat_ws(' ', 'relation', c.oid, c.xmin, n.xmin, c.relowner::regrole),
    c.relrowsecurity
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (o.relations)
  UNION ALL SELECT concat_ws(' ', 'column', a.attrelid, a.attnum, a.xmin), NULL
    FROM pg_attribute AS a
    WHERE a.attrelid = ANY (o.relations) AND a.attnum > 0
  UNION ALL SELECT concat_ws(' ', 'default', d.oid, d.xmin,
      -- Renaming a function that it calls changes its text, and no row.
      CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END), NULL
    FROM pg_attrdef AS d JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
    WHERE d.adrelid = ANY (o.relations)
  UNION ALL SELECT concat_ws(' ', 'trigger', oid, xmin), NULL
    FROM pg_trigger WHERE tgrelid = ANY (o.relations) OR tgfoid = ANY (o.functions)
  UNION ALL SELECT concat_ws(' ', 'rule', oid, xmin), NULL
    FROM pg_rewrite WHERE ev_class = ANY (o.relations)
  UNION ALL SELECT concat_ws(' ', 'heir', inhrelid, inhparent, xmin), NULL
    FROM pg_inherits WHERE inhparent = ANY (o.relations) OR inhrelid = ANY (o.relations)
  UNION ALL SELECT concat_ws(' ', 'constraint', oid, xmin), NULL
    FROM pg_constraint WHERE conrelid = ANY (o.relations)
  UNION ALL SELECT concat_ws(' ', 'unique index', indexrelid, xmin), NULL
    FROM pg_index WHERE indisunique AND indrelid = ANY (o.relations)
  UNION ALL SELECT concat_ws(' ', 'subscribed', srrelid, xmin), NULL
    FROM pg_subscription_rel WHERE srrelid = ANY (o.relations)
  UNION ALL SELECT concat_ws(' ', 'function', p.oid, p.xmin, n.xmin, p.proowner::regrole, p.proacl),
    NULL FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid = ANY (o.functions) OR p.proname = ANY (ARRAY(SELECT s.columns[1]::name
      FROM tallykeeper.stands_on AS s WHERE s.tally = %(tally)s AND s.kind = 'function'))
  UNION ALL SELECT concat_ws(' ', 'type', y.oid, y.xmin, n.xmin,
      (SELECT concat(t.xmin, ' ', m.xmin) FROM pg_type AS t
       JOIN pg_namespace AS m ON m.oid = t.typnamespace WHERE t.oid = y.typelem),
      format_type(nullif(y.typbasetype, 0), y.typtypmod),
      (SELECT string_agg(xmin::text, ',' ORDER BY oid) FROM pg_enum
       WHERE enumtypid IN (y.oid, y.typelem)),
      (SELECT string_agg(pg_get_constraintdef(oid), ',' ORDER BY oid)
       FROM pg_constraint WHERE contypid = y.oid),
      (SELECT string_agg(concat(xmin, format_type(atttypid, atttypmod)), ',' ORDER BY attnum)
       FROM pg_attribute WHERE attrelid = y.typrelid AND y.typrelid <> 0),
      (SELECT string_agg(refobjid::text, ',' ORDER BY refobjid) FROM pg_depend WHERE objid = y.oid
       AND classid = 'pg_type'::regclass AND deptype = 'e')), NULL
    FROM pg_type AS y JOIN pg_namespace AS n ON n.oid = y.typnamespace
    WHERE y.oid IN (SELECT a.atttypid FROM pg_attribute AS a
      WHERE a.attrelid = ANY (o.relations) AND a.attnum > 0 AND a.atttypid >= 16384)
  UNION ALL SELECT concat_ws(' ', 'collation', oid, xmin), NULL FROM pg_collation
    WHERE oid IN (SELECT a.attcollation FROM pg_attribute AS a
      WHERE a.attrelid = ANY (o.relations) AND a.attcollation >= 16384)
  UNION ALL SELECT concat_ws(' ', 'extension', oid, xmin), NULL FROM pg_extension
  UNION ALL SELECT concat_ws(' ', 'part of an extension', objid, refobjid), NULL FROM pg_depend
    WHERE classid = 'pg_proc'::regclass AND objid = ANY (o.functions) AND deptype = 'e'
) AS found
