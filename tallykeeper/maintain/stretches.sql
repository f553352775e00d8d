-- The columns of a derived table that may be an axis: type, collation, whether one heads an
-- index, and about how many values it has.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname) FROM pg_collation AS c
        JOIN pg_namespace AS n ON n.oid = c.collnamespace
        WHERE c.oid = a.attcollation) AS collation,
       EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
               JOIN pg_am AS m ON m.oid = x.relam
               WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND m.amname = 'btree'
               AND i.indisvalid AND i.indpred IS NULL) AS heads,
       coalesce((SELECT CASE WHEN s.n_distinct < 0
                        THEN -s.n_distinct * greatest(r.reltuples, 0) ELSE s.n_distinct END
                 FROM pg_stats AS s WHERE s.schemaname = r.relnamespace::regnamespace::name
                 AND s.tablename = r.relname AND s.attname = a.attname
                 ORDER BY s.inherited DESC LIMIT 1), 0) AS distinct_values
FROM pg_attribute AS a JOIN pg_class AS r ON r.oid = a.attrelid
WHERE a.attrelid = %s::regclass AND a.attname = ANY (%s::text[])
ORDER BY array_position(%s::text[], a.attname::text)
