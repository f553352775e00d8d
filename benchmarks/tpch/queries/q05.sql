-- Revenue of 1994 in Asia where customer and supplier are of the same nation.
-- tally: tpch.q05
SELECT n.n_name, sum(l.l_extendedprice * (1 - l.l_discount)) AS revenue
FROM tpch.customer AS c
JOIN tpch.orders AS o ON o.o_custkey = c.c_custkey
JOIN tpch.lineitem AS l ON l.l_orderkey = o.o_orderkey
JOIN tpch.supplier AS s ON s.s_suppkey = l.l_suppkey AND s.s_nationkey = c.c_nationkey
JOIN tpch.nation AS n ON n.n_nationkey = s.s_nationkey
JOIN tpch.region AS r ON r.r_regionkey = n.n_regionkey
WHERE r.r_name = 'ASIA'
    AND o.o_orderdate >= date '1994-01-01'
    AND o.o_orderdate < date '1994-01-01' + interval '1 year'
GROUP BY n.n_name
ORDER BY revenue DESC
