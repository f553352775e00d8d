WITH tally_p1 AS MATERIALIZED (
SELECT "1.product" AS product, "1.cents" AS cents, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.grouped_sale_extremes_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END GROUP BY "1.product", "1.cents" HAVING sum(tally_sign) <> 0 LIMIT 1
), tally_x_n1 AS MATERIALIZED (
SELECT DISTINCT CAST(g0 AS integer) AS g0 FROM (
SELECT CAST(NULL AS integer) AS g0 WHERE false
UNION ALL SELECT "s"."product" AS g0
FROM tally_p1 AS "s"
) AS q
), tally_new_n1 AS MATERIALIZED (
SELECT "s"."product" AS g0, COUNT(*) AS n, MIN("s"."cents") AS a0, MAX("s"."cents") AS a1 FROM "golden"."sales" AS "s" WHERE ("s"."product") IN (SELECT tally_k.g0 FROM tally_x_n1 AS tally_k) GROUP BY "s"."product"
)
INSERT INTO pg_temp.changed
SELECT CAST(NULL AS integer) AS product, CAST(NULL AS integer) AS "least", CAST(NULL AS integer) AS most, 0 AS tally_total WHERE false
UNION ALL SELECT CAST(c.g0 AS integer) AS product, CAST(c.a0 AS integer) AS "least", CAST(c.a1 AS integer) AS most, 1 FROM tally_new_n1 AS c
UNION ALL SELECT d.product, d."least", d.most, 0 FROM tally_x_n1 AS x JOIN grouped.sale_extremes AS d ON d.product = x.g0 WHERE NOT EXISTS (SELECT 1 FROM tally_new_n1 AS c WHERE c.g0 = x.g0);
