-- The 100 dearest orders of more than 300 pieces.
-- tally: tpch.q18
SELECT
    c.c_name, c.c_custkey, o.o_orderkey, o.o_orderdate, o.o_totalprice, sum(l.l_quantity) AS pieces
FROM tpch.customer AS c
JOIN tpch.orders AS o ON o.o_custkey = c.c_custkey
JOIN tpch.lineitem AS l ON l.l_orderkey = o.o_orderkey
WHERE o.o_orderkey IN (
    SELECT large.l_orderkey
    FROM tpch.lineitem AS large
    GROUP BY large.l_orderkey
    HAVING sum(large.l_quantity) > 300
)
GROUP BY c.c_name, c.c_custkey, o.o_orderkey, o.o_orderdate, o.o_totalprice
ORDER BY o.o_totalprice DESC, o.o_orderdate, o.o_orderkey
LIMIT 100
