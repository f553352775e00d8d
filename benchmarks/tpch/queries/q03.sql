-- The ten orders of the segment BUILDING with the most revenue not yet shipped on 15 March 1995.
-- tally: tpch.q03
SELECT
    l.l_orderkey,
    sum(l.l_extendedprice * (1 - l.l_discount)) AS revenue,
    o.o_orderdate,
    o.o_shippriority
FROM tpch.customer AS c
JOIN tpch.orders AS o ON o.o_custkey = c.c_custkey
JOIN tpch.lineitem AS l ON l.l_orderkey = o.o_orderkey
WHERE c.c_mktsegment = 'BUILDING'
    AND o.o_orderdate < date '1995-03-15'
    AND l.l_shipdate > date '1995-03-15'
GROUP BY l.l_orderkey, o.o_orderdate, o.o_shippriority
ORDER BY revenue DESC, o.o_orderdate, l.l_orderkey
LIMIT 10
