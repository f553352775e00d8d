-- What people set on a view, a materialized view or a table: grants, comments, options, owner.
WITH of_kind AS (
  SELECT CASE relkind WHEN 'm' THEN 'MATERIALIZED VIEW ' WHEN 'v' THEN 'VIEW ' ELSE 'TABLE ' END
    AS kind
  FROM pg_class WHERE oid = :oid
)
SELECT NULL AS column_name, 'GRANT ' || g.privilege_type || ' ON ' AS before,
       ' TO ' || coalesce(quote_ident(r.rolname), 'PUBLIC')
         || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS after
FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee
WHERE c.oid = :oid AND g.grantee <> c.relowner
UNION ALL
SELECT a.attname, format('GRANT %s (%I) ON ', g.privilege_type, a.attname),
       ' TO ' || coalesce(quote_ident(r.rolname), 'PUBLIC')
         || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
FROM pg_attribute AS a CROSS JOIN aclexplode(a.attacl) AS g
LEFT JOIN pg_roles AS r ON r.oid = g.grantee
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT a.attname, 'COMMENT ON ' || CASE d.objsubid WHEN 0 THEN k.kind ELSE 'COLUMN ' END,
       coalesce('.' || quote_ident(a.attname), '') || ' IS ' || quote_literal(d.description)
FROM pg_description AS d CROSS JOIN of_kind AS k
LEFT JOIN pg_attribute AS a ON a.attrelid = :oid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE d.classoid = 'pg_class'::regclass AND d.objoid = :oid
UNION ALL
SELECT NULL, 'ALTER ' || k.kind, ' SET (' || array_to_string(c.reloptions, ', ') || ')'
FROM pg_class AS c CROSS JOIN of_kind AS k WHERE c.oid = :oid AND c.reloptions IS NOT NULL
UNION ALL
SELECT NULL, 'ALTER ' || k.kind, ' OWNER TO ' || quote_ident(pg_get_userbyid(c.relowner))
FROM pg_class AS c CROSS JOIN of_kind AS k
WHERE c.oid = :oid AND pg_get_userbyid(c.relowner) <> current_user
