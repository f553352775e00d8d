-- The supplier, or suppliers, with the most revenue of the first quarter of 1996.
-- tally: tpch.q15
WITH revenue AS (
    SELECT l.l_suppkey AS suppkey, sum(l.l_extendedprice * (1 - l.l_discount)) AS total
    FROM tpch.lineitem AS l
    WHERE l.l_shipdate >= date '1996-01-01'
        AND l.l_shipdate < date '1996-01-01' + interval '3 months'
    GROUP BY l.l_suppkey
)
SELECT s.s_suppkey, s.s_name, s.s_address, s.s_phone, revenue.total
FROM tpch.supplier AS s
JOIN revenue ON revenue.suppkey = s.s_suppkey
WHERE revenue.total = (SELECT max(best.total) FROM revenue AS best)
ORDER BY s.s_suppkey
