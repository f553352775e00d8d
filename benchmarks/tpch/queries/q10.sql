-- The 20 customers who cost the most revenue by returning what they ordered in a quarter.
-- tally: tpch.q10
SELECT
    c.c_custkey,
    c.c_name,
    sum(l.l_extendedprice * (1 - l.l_discount)) AS revenue,
    c.c_acctbal,
    n.n_name,
    c.c_address,
    c.c_phone,
    c.c_comment
FROM tpch.customer AS c
JOIN tpch.orders AS o ON o.o_custkey = c.c_custkey
JOIN tpch.lineitem AS l ON l.l_orderkey = o.o_orderkey
JOIN tpch.nation AS n ON n.n_nationkey = c.c_nationkey
WHERE o.o_orderdate >= date '1993-10-01'
    AND o.o_orderdate < date '1993-10-01' + interval '3 months'
    AND l.l_returnflag = 'R'
GROUP BY
    c.c_custkey, c.c_name, c.c_acctbal, c.c_phone, n.n_name, c.c_address, c.c_comment
ORDER BY revenue DESC, c.c_custkey
LIMIT 20
