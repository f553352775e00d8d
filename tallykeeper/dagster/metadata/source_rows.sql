-- Of each table of the names, with its partitions: about how many rows, and how many were written.
WITH RECURSIVE tree AS (
  SELECT n.name, to_regclass(n.name)::oid AS oid FROM unnest(CAST(:names AS text[])) AS n (name)
  UNION
  SELECT t.name, i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT t.name,
  CASE WHEN NOT bool_or(c.reltuples < 0) THEN sum(c.reltuples)::bigint END AS rows,
  sum(pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid)
    + pg_stat_get_tuples_deleted(c.oid))::bigint AS written
FROM tree AS t JOIN pg_class AS c ON c.oid = t.oid
WHERE c.relkind = 'r'
GROUP BY t.name
