WITH tally_p1 AS MATERIALIZED (
SELECT "1.day" AS day, "1.page" AS page, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.partitioned_visit_pages_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END GROUP BY "1.day", "1.page" HAVING sum(tally_sign) <> 0 LIMIT 1
), tally_x_n1 AS MATERIALIZED (
SELECT DISTINCT CAST(g0 AS text) AS g0 FROM (
SELECT CAST(NULL AS text) AS g0 WHERE false
UNION ALL SELECT "v"."page" AS g0
FROM tally_p1 AS "v"
) AS q
), tally_new_n1 AS MATERIALIZED (
SELECT "v"."page" AS g0, COUNT(*) AS n, COUNT(*) AS a0, MAX("v"."day") AS a1 FROM "golden"."visits" AS "v" WHERE ("v"."page") IN (SELECT tally_k.g0 FROM tally_x_n1 AS tally_k) GROUP BY "v"."page"
)
INSERT INTO pg_temp.changed
SELECT CAST(NULL AS text) AS page, CAST(NULL AS bigint) AS visits, CAST(NULL AS date) AS latest, 0 AS tally_total WHERE false
UNION ALL SELECT CAST(c.g0 AS text) AS page, CAST(c.a0 AS bigint) AS visits, CAST(c.a1 AS date) AS latest, 1 FROM tally_new_n1 AS c
UNION ALL SELECT d.page, d.visits, d.latest, 0 FROM tally_x_n1 AS x JOIN partitioned.visit_pages AS d ON d.page = x.g0 WHERE NOT EXISTS (SELECT 1 FROM tally_new_n1 AS c WHERE c.g0 = x.g0);
