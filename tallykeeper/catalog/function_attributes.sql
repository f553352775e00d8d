-- What people set on a function. Everybody may call a function that is made anew: what is made
-- for it decides that, not this.
SELECT NULL AS column_name, 'GRANT EXECUTE ON FUNCTION ' AS before,
       ' TO ' || quote_ident(r.rolname)
         || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS after
FROM pg_proc AS p CROSS JOIN aclexplode(p.proacl) AS g JOIN pg_roles AS r ON r.oid = g.grantee
WHERE p.oid = :oid AND g.grantee <> p.proowner
UNION ALL
SELECT NULL, 'COMMENT ON FUNCTION ', ' IS ' || quote_literal(d.description)
FROM pg_description AS d WHERE d.classoid = 'pg_proc'::regclass AND d.objoid = :oid
UNION ALL
SELECT NULL, 'ALTER FUNCTION ', ' OWNER TO ' || quote_ident(pg_get_userbyid(p.proowner))
FROM pg_proc AS p WHERE p.oid = :oid AND pg_get_userbyid(p.proowner) <> current_user
