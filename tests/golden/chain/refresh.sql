WITH tally_p1 AS MATERIALIZED (
SELECT "1.product" AS product, "1.cents" AS cents, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.chain_words_by_sales_log WHERE CASE WHEN tally_part = 1 THEN true ELSE false END GROUP BY "1.product", "1.cents" HAVING sum(tally_sign) <> 0 LIMIT 1
), tally_p2 AS MATERIALIZED (
SELECT "2.id" AS id, sum(tally_sign)::bigint AS tally_m FROM tallykeeper.chain_words_by_sales_log WHERE CASE WHEN tally_part = 2 THEN true ELSE false END GROUP BY "2.id" HAVING sum(tally_sign) <> 0 LIMIT 1
), tally_x_n1 AS MATERIALIZED (
SELECT CAST(g0 AS integer) AS g0, CAST(coalesce(sum(n), 0) AS bigint) AS n, CAST(coalesce(sum(a0), 0) AS numeric) AS a0 FROM (
SELECT CAST(NULL AS integer) AS g0, CAST(NULL AS bigint) AS n, CAST(NULL AS numeric) AS a0 WHERE false
UNION ALL SELECT "s"."product" AS g0, "s".tally_m AS n, CAST("s"."cents" AS BIGINT) * "s".tally_m AS a0
FROM tally_p1 AS "s"
  JOIN golden.products AS "p" ON ("p"."id" = "s"."product")
UNION ALL SELECT "s"."product" AS g0, -("s".tally_m * "p".tally_m) AS n, CAST("s"."cents" AS BIGINT) * -("s".tally_m * "p".tally_m) AS a0
FROM tally_p1 AS "s"
  JOIN tally_p2 AS "p" ON ("p"."id" = "s"."product")
UNION ALL SELECT "s"."product" AS g0, "p".tally_m AS n, CAST("s"."cents" AS BIGINT) * "p".tally_m AS a0
FROM tally_p2 AS "p"
  JOIN golden.sales AS "s" ON ("p"."id" = "s"."product")
) AS q
GROUP BY g0
HAVING sum(n) <> 0 OR sum(a0) <> 0
), tally_c_n1 AS MATERIALIZED (
SELECT x.g0, s.ctid AS tally_place, s.n AS old_n, s.a0 AS old_a0, coalesce(s.n, 0) + x.n AS n, coalesce(s.a0, 0) + x.a0 AS a0 FROM tally_x_n1 AS x LEFT JOIN tallykeeper.chain_words_by_sales_n1 AS s ON s.g0 = x.g0
), tally_d_n1 AS MATERIALIZED (
SELECT old_n AS n, old_a0 AS a0, -1::bigint AS tally_m FROM tally_c_n1 WHERE old_n IS NOT NULL AND (n = 0 OR old_n IS NULL OR old_n IS DISTINCT FROM n OR old_a0 IS DISTINCT FROM a0)
UNION ALL SELECT n, a0, 1::bigint AS tally_m FROM tally_c_n1 WHERE n <> 0 AND (n = 0 OR old_n IS NULL OR old_n IS DISTINCT FROM n OR old_a0 IS DISTINCT FROM a0)
), tally_x_n2 AS MATERIALIZED (
SELECT CAST(g0 AS bigint) AS g0, CAST(coalesce(sum(n), 0) AS bigint) AS n, CAST(coalesce(sum(a0), 0) AS numeric) AS a0 FROM (
SELECT CAST(NULL AS bigint) AS g0, CAST(NULL AS bigint) AS n, CAST(NULL AS numeric) AS a0 WHERE false
UNION ALL SELECT t1_.n AS g0, "t1_".tally_m AS n, CAST(t1_.a0 AS DECIMAL) * "t1_".tally_m AS a0
FROM tally_d_n1 AS "t1_"
) AS q
GROUP BY g0
HAVING sum(n) <> 0 OR sum(a0) <> 0
), tally_c_n2 AS MATERIALIZED (
SELECT x.g0, s.ctid AS tally_place, s.n AS old_n, s.a0 AS old_a0, coalesce(s.n, 0) + x.n AS n, coalesce(s.a0, 0) + x.a0 AS a0 FROM tally_x_n2 AS x LEFT JOIN (SELECT d.ctid, d.lines AS g0, d.products AS n, d.cents AS a0 FROM chain.words_by_sales AS d) AS s ON s.g0 = x.g0
), tally_u_n1 AS (
UPDATE tallykeeper.chain_words_by_sales_n1 AS s SET n = c.n, a0 = c.a0 FROM tally_c_n1 AS c WHERE s.ctid = c.tally_place AND c.n <> 0
), tally_i_n1 AS (
INSERT INTO tallykeeper.chain_words_by_sales_n1 (g0, n, a0) SELECT c.g0, c.n, c.a0 FROM tally_c_n1 AS c WHERE c.tally_place IS NULL AND c.n <> 0
), tally_e_n1 AS (
DELETE FROM tallykeeper.chain_words_by_sales_n1 AS s USING tally_c_n1 AS c WHERE s.ctid = c.tally_place AND c.n = 0
)
INSERT INTO pg_temp.changed
SELECT CAST(NULL AS bigint) AS lines, CAST(NULL AS bigint) AS products, CAST(NULL AS numeric) AS cents, 0 AS tally_total WHERE false
UNION ALL SELECT CAST(c.g0 AS bigint) AS lines, CAST(c.n AS bigint) AS products, CAST(c.a0 AS numeric) AS cents, CASE WHEN c.n <> 0 THEN 1 ELSE 0 END FROM tally_c_n2 AS c;
